/** What the tests on a GPU share: starting the engine, random inputs, comparison with the plain backend. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CudaBackend } from '../../../src/engines/cuda/backend.js';
import { startCuda } from '../../../src/engines/cuda/index.js';
import type { StorageType } from '../../../src/engines/engine.js';
import { RunError } from '../../../src/errors.js';
import * as tf from '../../../src/tf.js';
import { skipBecause } from '../../skip.js';
import { ROW_FACTOR, relativeError, worstRowError } from '../relative-error.js';

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
    worst.whole = worst.row = { error: 0, name: '' };
    if (reason === null) await startCuda({ storage, poison });
  });
  test.after(async () => {
    await tf.setBackend('cpu');
    for (const [kind, { error, name }] of Object.entries(worst)) {
      if (error > 0) process.stdout.write(`\n  ${kind}: at most ${error.toExponential(1)}, ${name}`);
    }
  });
  const add = (title: string, body: (inputs: Inputs) => void | Promise<void>, missing?: string): void => {
    const why = reason ?? missing;
    const run = (): void | Promise<void> => {
      running = { title: `${name.replace(storage, '')} ${title}`, comparisons: 0 };
      return body(new Inputs(seed));
    };
    if (why === undefined) test(title, run);
    else skipBecause(why, test, title);
  };
  return Object.assign(add, {
    run: () => {
      test.run();
    },
  });
}

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

/** What the plain backend gave. */
interface Reference {
  readonly name: string;
  readonly results: readonly { readonly values: tf.TypedArray; readonly shape: readonly number[] }[];
}

/** The test that runs, but for its storage, and how many comparisons it has made. */
let running = { title: '', comparisons: 0 };
/** By test and comparison: a test makes the same ones, with the same inputs, for every storage. */
const references = new Map<string, Reference>();

async function reference(name: string, inputs: readonly Input[], body: Computation): Promise<Reference> {
  const key = `${running.title} ${running.comparisons++}`;
  let found = references.get(key);
  if (found === undefined) {
    const shapes: number[][] = [];
    const values = await compute('cpu', inputs, (...tensors) => {
      const results = body(...tensors);
      shapes.push(...results.map(({ shape }) => shape));
      return results;
    });
    found = { name, results: values.map((values, i) => ({ values, shape: shapes[i] ?? [] })) };
    references.set(key, found);
  }
  assert.is(found.name, name, 'a test compares the same for every storage');
  return found;
}

/** The largest errors since a suite began, with the comparison that found them. */
const worst = { whole: { error: 0, name: '' }, row: { error: 0, name: '' } };

/** Keeps `error` for the summary if it is the largest; whether it is within the tolerance. */
function note(kind: keyof typeof worst, name: string, error: number, tolerance: number): void {
  if (!(error <= worst[kind].error)) worst[kind] = { error, name };
  const what = kind === 'row' ? 'a row of ' : '';
  assert.ok(error <= tolerance, `${what}${name} is off by ${error}, more than ${tolerance}`);
}

/** Compares one tensor as a whole and, where it has rows, row by row. */
export function checkErrors(
  name: string,
  tolerance: number,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  shape: readonly number[],
): void {
  note('whole', name, relativeError(actual, expected), tolerance);
  const width = shape.length > 1 ? (shape.at(-1) ?? 0) : 0;
  if (width > 0) note('row', name, worstRowError(actual, expected, width), ROW_FACTOR * tolerance);
}

/** Compares every result of the computation with the plain backend's. */
export async function compare(
  name: string,
  tolerance: number,
  inputs: readonly Input[],
  body: Computation,
): Promise<void> {
  const { results } = await reference(name, inputs, body);
  const actual = await compute(CUDA, inputs, body);
  assert.is(actual.length, results.length);
  for (const [index, { values, shape }] of results.entries()) {
    checkErrors(`result ${index} of ${name}`, tolerance, actual[index] ?? [], values, shape);
  }
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
