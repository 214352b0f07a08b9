/** What the tests on a GPU share: starting the engine, random inputs, comparison with the plain backend. */
import { suite } from 'uvu';
import { CudaBackend } from '../../../src/engines/cuda/backend.js';
import { startCuda } from '../../../src/engines/cuda/index.js';
import type { StorageType } from '../../../src/engines/engine.js';
import { RunError } from '../../../src/errors.js';
import * as tf from '../../../src/tf.js';
import { type Computation, type Input, Inputs, tensorOf } from '../../ops/kernels/contract.js';
import { skipBecause } from '../../skip.js';
import { Errors } from '../../ops/errors.js';

export const CUDA = 'yoco-cuda';

/** The engine's backend, started before. */
export function cudaBackend(): CudaBackend {
  const backend = tf.findBackend(CUDA);
  if (!(backend instanceof CudaBackend)) throw new Error('the cuda engine has not been started');
  return backend;
}

async function tryGpu(): Promise<string | null> {
  try {
    await startCuda({ storage: 'float32' });
    await tf.setBackend('cpu');
    return null;
  } catch (error) {
    if (error instanceof RunError) return error.message;
    throw error;
  }
}

let noGpu: Promise<string | null> | undefined;

/** Why there is no GPU to test on, or null. */
export function whyNoGpu(): Promise<string | null> {
  return (noGpu ??= tryGpu());
}

export interface GpuSuite {
  /** @param missing what beside a GPU the test needs and does not find */
  (name: string, body: (inputs: Inputs) => void | Promise<void>, missing?: string): void;
  /** Where its tests hold what they compare. */
  readonly errors: Errors;
  run(): void;
}

/**
 * A suite on the engine, started with this storage; without a GPU its tests are skipped and say why. Every test has inputs of
 * the same seed.
 */
export async function gpuSuite(
  name: string,
  { storage, seed = 1, poison = true }: { storage: StorageType; seed?: number; poison?: boolean },
): Promise<GpuSuite> {
  const reason = await whyNoGpu();
  const test = suite(name);
  const errors = new Errors();
  test.before(async () => {
    if (reason === null) await startCuda({ storage, poison });
  });
  test.after(async () => {
    await tf.setBackend('cpu');
    process.stdout.write(errors.toString());
  });
  const add = (title: string, body: (inputs: Inputs) => void | Promise<void>, missing?: string): void => {
    const why = reason ?? missing;
    if (why === undefined) test(title, () => body(new Inputs(seed)));
    else skipBecause(why, test, title);
  };
  return Object.assign(add, {
    errors,
    run: () => {
      test.run();
    },
  });
}

/** Runs a computation on one backend and returns the values of its results. */
export async function compute(
  backend: string,
  inputs: readonly Input[],
  body: Computation,
): Promise<tf.TypedArray[]> {
  await tf.setBackend(backend);
  const results = tf.tidy(() => body(...inputs.map(tensorOf)));
  const values = results.map((result) => result.dataSync().slice());
  tf.dispose(results);
  return values;
}
