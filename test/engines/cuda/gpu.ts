/** What the tests on a GPU share: starting the engine, random inputs, comparison with the plain backend. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CudaBackend } from '../../../src/engines/cuda/backend.js';
import { startCuda } from '../../../src/engines/cuda/index.js';
import type { StorageType } from '../../../src/engines/engine.js';
import { RunError } from '../../../src/errors.js';
import * as tf from '../../../src/tf.js';
import { skipBecause } from '../../skip.js';

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
  (name: string, body: (inputs: Inputs) => void | Promise<void>): void;
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
  test.before(async () => {
    if (reason === null) await startCuda({ storage, poison });
  });
  test.after(async () => {
    await tf.setBackend('cpu');
  });
  const add = (title: string, body: (inputs: Inputs) => void | Promise<void>): void => {
    if (reason === null) test(title, () => body(new Inputs(seed)));
    else skipBecause(reason, test, title);
  };
  return Object.assign(add, {
    run: () => {
      test.run();
    },
  });
}

/** Largest relative error ‖out − reference‖ / ‖reference‖ that a storage type may cause. */
export const TOLERANCE: Readonly<Record<StorageType, number>> = {
  float32: 1e-4,
  bfloat16: 2e-2,
  float16: 2e-2,
};

export interface Input {
  shape: number[];
  values: Float32Array | Int32Array;
  dtype: 'float32' | 'int32' | 'bool';
}

/** Deterministic inputs: a linear congruential generator, sums of uniforms for a bell shape. */
export class Inputs {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  uniform(): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return this.state / 2 ** 32;
  }

  /** About normal, with mean `shift` and standard deviation `scale`; exactly representable in bfloat16. */
  normal(shape: number[], scale = 1, shift = 0): Input {
    const size = shape.reduce((a, b) => a * b, 1);
    const bell = (): number =>
      (this.uniform() + this.uniform() + this.uniform() + this.uniform() - 2) * Math.sqrt(3);
    const values = Float32Array.from({ length: size }, () => bell() * scale + shift);
    const bits = new Uint32Array(values.buffer);
    for (let i = 0; i < size; i++) bits[i] = ((bits[i] ?? 0) + 0x8000) & 0xffff0000;
    return { shape, values, dtype: 'float32' };
  }

  integers(shape: number[], below: number): Input {
    const size = shape.reduce((a, b) => a * b, 1);
    return {
      shape,
      values: Int32Array.from({ length: size }, () => Math.floor(this.uniform() * below)),
      dtype: 'int32',
    };
  }
}

export type Computation = (...inputs: tf.Tensor[]) => tf.Tensor[];

/** Runs a computation on one backend and returns the values of its results. */
export async function compute(
  backend: string,
  inputs: readonly Input[],
  body: Computation,
): Promise<tf.TypedArray[]> {
  await tf.setBackend(backend);
  const results = tf.tidy(() =>
    body(...inputs.map(({ values, shape, dtype }) => tf.tensor(values, shape, dtype))),
  );
  const values = results.map((result) => result.dataSync().slice());
  tf.dispose(results);
  return values;
}

export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.is(actual.length, expected.length, 'sizes differ');
  let [difference, norm] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] ?? NaN, expected[i] ?? NaN];
    if (a === e) {
      norm += Number.isFinite(e) ? e * e : 0;
      continue;
    }
    difference += (a - e) ** 2;
    norm += e ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / Math.max(norm, 1e-30));
}

/** Worst errors seen, for the summary a GPU run prints. */
export const errors: { name: string; error: number }[] = [];

/** Compares every result of the computation with the plain backend's. */
export async function compare(
  name: string,
  tolerance: number,
  inputs: readonly Input[],
  body: Computation,
): Promise<void> {
  const expected = await compute('cpu', inputs, body);
  const actual = await compute(CUDA, inputs, body);
  assert.is(actual.length, expected.length);
  const found = expected.map((values, index) => relativeError(actual[index] ?? [], values));
  errors.push({ name, error: Math.max(...found.map((error) => (Number.isNaN(error) ? Infinity : error))) });
  found.forEach((error, index) => {
    assert.ok(error <= tolerance, `${name}: result ${index} is off by ${error}, more than ${tolerance}`);
  });
}

/** A computation's value and its gradients with respect to all inputs, for a given gradient of the value. */
export function withGradients(
  body: (...inputs: tf.Tensor[]) => tf.Tensor,
  outputGradient: Input,
): Computation {
  return (...inputs) => {
    const dy = tf.tensor(outputGradient.values, outputGradient.shape);
    const grads = tf.grads(body)(inputs, dy);
    return [body(...inputs), ...grads];
  };
}
