/**
 * The plain tfjs CPU backend, for tests that need tensors but no engine: slow, complete, always there. With
 * `YOCO_TEST_ENGINE=cuda` the same tests run on the CUDA engine in float32 (`npm run test:cuda`, on a machine with a GPU).
 */
import * as tf from '../src/tf.js';

/** Makes the plain backend current; call it before the first tensor of a test file. */
export async function usePlainBackend(): Promise<void> {
  if (process.env.YOCO_TEST_ENGINE === 'cuda') {
    const { startCuda } = await import('../src/engines/cuda/index.js');
    await startCuda({ storage: 'float32' });
    return;
  }
  if (tf.getBackend() !== 'cpu') await tf.setBackend('cpu');
  await tf.ready();
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
