/**
 * The plain tfjs CPU backend, for tests that need tensors but no engine: slow, complete, always there. With
 * `YOCO_TEST_ENGINE=cuda` the same tests run on the CUDA engine in float32 (`npm run test:cuda`) where there is a GPU, with
 * `YOCO_TEST_ENGINE=tensorflow` on the TensorFlow engine (`npm run test:tensorflow`) where its package is built.
 */
import { RunError } from '../src/errors.js';
import * as tf from '../src/tf.js';

type Start = (options: { readonly storage: 'float32' }) => Promise<unknown>;

/** The engines that can take the plain backend's place. */
const STARTERS: Readonly<Record<string, () => Promise<Start>>> = {
  cuda: async () => (await import('../src/engines/cuda/index.js')).startCuda,
  tensorflow: async () => (await import('../src/engines/tensorflow/index.js')).startTensorflow,
};

/** Makes the plain backend current; call it before the first tensor of a test file. */
export async function usePlainBackend(): Promise<void> {
  const load = STARTERS[process.env.YOCO_TEST_ENGINE ?? ''];
  if (load !== undefined && (await started(load))) return;
  if (tf.getBackend() !== 'cpu') await tf.setBackend('cpu');
  await tf.ready();
}

/** Why the cpu engine's own tests do not run; null: they do. */
export function whyNotCpu(): string | null {
  const { YOCO_TEST_ENGINE: engine = '' } = process.env;
  return engine === '' ? null : `YOCO_TEST_ENGINE=${engine}: that engine is under test`;
}

let hasEngine = true;

/** Starts the engine under test; where it does not start says so, once. */
async function started(load: () => Promise<Start>): Promise<boolean> {
  if (!hasEngine) return false;
  try {
    const start = await load();
    await start({ storage: 'float32' });
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    process.stderr.write(`these tests run on the plain backend: ${error.message}\n`);
    hasEngine = false;
  }
  return hasEngine;
}

/** Runs `work` on the plain backend whatever the engine under test: for tests that give it kernels of their own. */
export async function onPlainBackend(work: () => void): Promise<void> {
  const engine = tf.getBackend();
  await tf.setBackend('cpu');
  try {
    work();
  } finally {
    await tf.setBackend(engine);
  }
}

/**
 * Runs `body` and returns how many tensors it left behind.
 * What `body` returns is not kept: dispose results inside.
 */
export function leakedTensors(body: () => void): number {
  const before = tf.memory().numTensors;
  body();
  return tf.memory().numTensors - before;
}
