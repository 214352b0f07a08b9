/**
 * The plain tfjs CPU backend, for tests that need tensors but no engine: slow, complete, always there. With
 * `YOCO_TEST_ENGINE=cuda` the same tests run on the CUDA engine in float32 (`npm run test:cuda`) where there is a GPU.
 */
import { RunError } from '../src/errors.js';
import * as tf from '../src/tf.js';

/** Makes the plain backend current; call it before the first tensor of a test file. */
export async function usePlainBackend(): Promise<void> {
  if (process.env.YOCO_TEST_ENGINE === 'cuda' && (await startedCuda())) return;
  if (tf.getBackend() !== 'cpu') await tf.setBackend('cpu');
  await tf.ready();
}

let hasGpu = true;

/** Starts the CUDA engine; without a usable GPU says so, once. */
async function startedCuda(): Promise<boolean> {
  if (!hasGpu) return false;
  const { startCuda } = await import('../src/engines/cuda/index.js');
  try {
    await startCuda({ storage: 'float32' });
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    process.stderr.write(`these tests run on the plain backend: ${error.message}\n`);
    hasGpu = false;
  }
  return hasGpu;
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
