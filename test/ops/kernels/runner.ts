/** Runs the kernel cases on an engine and holds it to their references. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { StorageType } from '../../../src/engines/engine.js';
import * as tf from '../../../src/tf.js';
import { skipBecause } from '../../skip.js';
import { Errors } from '../errors.js';
import type { Array64 } from '../reference.js';
import { relativeError, TOLERANCE } from '../relative-error.js';
import { CASES } from './cases.js';
import { errorOfTerms, errorsOfRounding, type Kind } from './conditioning.js';
import { checkSlopes } from './slopes.js';
import {
  type EngineUnderTest,
  type Input,
  Inputs,
  type KernelCase,
  gradientsOf,
  tensorOf,
} from './contract.js';

export interface Target {
  readonly engine: EngineUnderTest;
  readonly storage: StorageType;
  /** Makes the engine's backend the current one; what it returns, if a function, is called in the end. */
  readonly start: () => Promise<unknown>;
  /** Why it does not start; null where it does. */
  readonly missing: string | null;
  /** Where the engine is less precise than its storage allows. */
  readonly tolerance?: number;
  /** Why only a sample of the small cases of every op runs; null for all. */
  readonly sample?: string | null;
}

interface Result {
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

interface Expected {
  readonly results: readonly Result[];
  readonly gradients: readonly Result[];
}

const SEED = 17;
/** Values below these count as zeros where each is held to its own magnitude: the storage has no normal numbers there. */
const LEAST: Readonly<Record<StorageType, number>> = { float32: 1e-36, bfloat16: 1e-36, float16: 2e-7 };

/** What `make` gives, made once for all that ask for the same key in a row: a case is run several times. */
function keptFor<K, V>(make: (key: K) => V): (key: K) => V {
  let kept: { readonly key: K; readonly value: V } | undefined;
  return (key) => {
    if (kept?.key !== key) kept = { key, value: make(key) };
    return kept.value;
  };
}

const inputsOf = keptFor(({ inputs }: KernelCase): readonly Input[] => inputs(new Inputs(SEED)));

const weightsFor = keptFor((shapes: string): readonly Input[] => {
  const make = new Inputs(SEED + 1);
  return (JSON.parse(shapes) as number[][]).map((shape) => make.normal(shape));
});

/** Weights of all results in the objective whose gradients are compared. */
const weightsOf = (results: readonly Result[]): readonly Input[] =>
  weightsFor(JSON.stringify(results.map(({ shape }) => shape)));

function evaluate(compute: (inputs: tf.Tensor[]) => tf.Tensor[], inputs: readonly Input[]): Result[] {
  const tensors = tf.tidy(() => compute(inputs.map(tensorOf)));
  const results = tensors.map((tensor) => ({ shape: tensor.shape, values: tensor.dataSync().slice() }));
  tf.dispose(tensors);
  return results;
}

function run(item: KernelCase): Expected {
  const inputs = inputsOf(item);
  const results = evaluate((tensors) => item.compute(...tensors), inputs);
  const weights = weightsOf(results);
  const gradients = item.gradients
    ? evaluate((tensors) => gradientsOf(item.compute, tensors, weights), inputs)
    : [];
  return { results, gradients };
}

function keptForAll<V>(make: (item: KernelCase) => V): (item: KernelCase) => V {
  const kept = new Map<KernelCase, V>();
  return (item) => {
    const value = kept.has(item) ? (kept.get(item) as V) : make(item);
    kept.set(item, value);
    return value;
  };
}

// Both for all that is tested in this process.
const referenceOf = keptForAll((item): Result[] | null => {
  const arrays = inputsOf(item).map(({ shape, values }): Array64 => ({
    shape,
    data: Float64Array.from(values),
  }));
  return item.reference?.(...arrays).map(({ shape, data }) => ({ shape, values: data })) ?? null;
});

/** What the plain backend gives, which is the current one. */
const runPlain = keptForAll(run);

async function expectedOf(item: KernelCase): Promise<Expected> {
  const reference = referenceOf(item);
  if (reference !== null && !item.gradients) return { results: reference, gradients: [] };
  await tf.setBackend('cpu');
  const { results, gradients } = runPlain(item);
  return { results: reference ?? results, gradients };
}

function sameBits(a: Expected, b: Expected): boolean {
  const bytes = ({ results, gradients }: Expected): Buffer[] =>
    [...results, ...gradients].map(({ values }) => {
      const { buffer, byteOffset, byteLength } = values as Float32Array;
      return Buffer.from(buffer, byteOffset, byteLength);
    });
  return Buffer.concat(bytes(a)).equals(Buffer.concat(bytes(b)));
}

/** The largest error of a value relative to itself. */
function worstValue(actual: ArrayLike<number>, expected: ArrayLike<number>, least: number): number {
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] ?? NaN, expected[i] ?? NaN];
    if (a === e || Math.abs(a - e) <= least) continue;
    if (Number.isNaN(a) && Number.isNaN(e)) continue;
    const error = Math.abs(a - e) / Math.abs(e);
    if (Number.isNaN(error)) return NaN;
    worst = Math.max(worst, error);
  }
  return worst;
}

/** The largest error in units of the largest value, or of 1. */
function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [worst, scale] = [0, 1];
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs((actual[i] ?? NaN) - (expected[i] ?? NaN));
    if (Number.isNaN(difference)) return NaN;
    worst = Math.max(worst, difference);
    scale = Math.max(scale, Math.abs(expected[i] ?? NaN));
  }
  return worst / scale;
}

function check(
  errors: Errors,
  item: KernelCase,
  target: Target,
  what: string,
  actual: Result,
  expected: Result,
  implied = 0,
): void {
  const { storage } = target;
  assert.equal([...actual.shape], [...expected.shape], `${what}: shape`);
  const usual = Math.max(TOLERANCE[storage], target.tolerance ?? 0);
  const tolerance = item.exact ? 0 : Math.max(usual, item.tolerance?.[storage] ?? 0, implied);
  if (item.elementwise) {
    errors.hold('value', what, worstValue(actual.values, expected.values, LEAST[storage]), tolerance);
    return;
  }
  if (item.cancels) {
    errors.hold('difference', what, largestDifference(actual.values, expected.values), tolerance);
    return;
  }
  errors.holdRows(what, tolerance, actual.values, expected.values, expected.shape);
}

/** What storing in 16 bits alone makes a result or gradient be off by (conditioning.ts), by the plain backend. */
export async function impliedError(
  item: KernelCase,
  kind: Kind,
  index: number,
  storage: StorageType,
): Promise<number> {
  // Differences of neighbours and single values are held to what they are made of already.
  if (storage === 'float32' || item.cancels || item.elementwise || item.exact) return 0;
  await tf.setBackend('cpu');
  const { sums } = item;
  const inputs = inputsOf(item);
  const weights = weightsOf(evaluate((tensors) => item.compute(...tensors), inputs));
  const sum = kind === 'gradient' ? (sums?.inputs.indexOf(index) ?? -1) : -1;
  if (sums && sum >= 0) return errorOfTerms(sums.terms(inputs, weights)[sum] ?? NaN, storage);
  return errorsOfRounding(item, kind, inputs, weights, storage)[index] ?? NaN;
}

/**
 * A test of every case that has a reference, of the compositions on a backend: results against the reference, gradients against
 * its central differences.
 */
export function testDefinitions(start: () => Promise<void>): void {
  const test = suite('kernels as they are defined');
  const target = { engine: 'plain', storage: 'float32', start, missing: null } as const;
  const errors = new Errors();
  test.before(start);
  for (const item of CASES.filter(isWanted)) {
    const { name, reference } = item;
    if (reference === undefined) continue;
    test(name, () => {
      const { results, gradients } = tf.getBackend() === 'cpu' ? runPlain(item) : run(item);
      const expected = referenceOf(item) ?? [];
      assert.is(results.length, expected.length, 'number of results');
      results.forEach((result, i) => {
        check(errors, item, target, `${name}, result ${i}`, result, expected[i] as Result);
      });
      if (item.gradients) checkSlopes(name, inputsOf(item), weightsOf(results), reference, gradients);
    });
  }
  test.after(() => {
    process.stdout.write(errors.toString());
  });
  test.run();
}

/** Whether `KERNELS` asks for this case: words, of which its name contains one. */
function isWanted({ name }: KernelCase): boolean {
  const words = process.env.KERNELS?.split(',') ?? [];
  return words.length === 0 || words.some((word) => name.includes(word));
}

const SAMPLE_ELEMENTS = 4000;
const SAMPLE_OF_OP = 4;

/** Of every op a few cases whose inputs are small, from the smallest to the largest. */
function sampleOf(cases: readonly KernelCase[]): ReadonlySet<KernelCase> {
  const ops = new Map<string, { item: KernelCase; elements: number }[]>();
  for (const item of cases) {
    const elements = inputsOf(item).reduce((sum, { values }) => sum + values.length, 0);
    if (elements > SAMPLE_ELEMENTS) continue;
    const op = /^\w+/.exec(item.name)?.[0] ?? '';
    ops.set(op, [...(ops.get(op) ?? []), { item, elements }]);
  }
  return new Set(
    [...ops.values()].flatMap((sizes) => {
      const sorted = sizes.sort((a, b) => a.elements - b.elements).map(({ item }) => item);
      const step = Math.max(1, (sorted.length - 1) / (SAMPLE_OF_OP - 1));
      return sorted.filter((_, i) => Math.round(Math.round(i / step) * step) === i);
    }),
  );
}

/** A test of every case on the engine. Nothing may be left behind, and a second run must give the same. */
export function testKernels(target: Target): void {
  const { engine, storage, start, missing, sample = null } = target;
  const test = suite(`kernels on ${engine}, ${storage}`);
  const errors = new Errors();
  let stop: unknown;
  let backend = '';
  test.before(async () => {
    if (missing !== null) return;
    stop = await start();
    backend = tf.getBackend();
  });
  test.after(async () => {
    await tf.setBackend('cpu');
    if (typeof stop === 'function') (stop as () => void)();
    process.stdout.write(errors.toString());
  });
  const isPossible = (item: KernelCase): boolean =>
    item.except?.[engine] === undefined && !(item.large && engine !== 'cuda');
  const cases = CASES.filter((item) => isWanted(item) && isPossible(item));
  const chosen = sample === null ? new Set(cases) : sampleOf(cases);
  if (missing !== null) skipBecause(missing, test, 'all kernel cases');
  else
    for (const item of cases) {
      if (chosen.has(item)) add(item);
      else skipBecause(sample ?? '', test, item.name);
    }

  function add(item: KernelCase): void {
    const { name } = item;
    test(name, async () => {
      const expected = await expectedOf(item);
      await tf.setBackend(backend);
      const first = run(item);
      const before = tf.memory().numTensors;
      const actual = run(item);
      assert.is(tf.memory().numTensors, before, 'tensors left behind');
      assert.ok(sameBits(first, actual), 'a second run gives the same');
      await compareAll(item, 'result', actual.results, expected.results);
      await compareAll(item, 'gradient', actual.gradients, expected.gradients);
    });
  }

  async function compareAll(
    item: KernelCase,
    kind: Kind,
    actual: readonly Result[],
    expected: readonly Result[],
  ): Promise<void> {
    assert.is(actual.length, expected.length, `${item.name}: number of ${kind}s`);
    for (const [i, result] of actual.entries()) {
      const wanted = expected[i] as Result;
      // What storage implies takes many runs: it is asked for where the usual tolerance does not do.
      const isUsual = relativeError(result.values, wanted.values) <= TOLERANCE[storage];
      const implied = isUsual ? 0 : await impliedError(item, kind, i, storage);
      check(errors, item, target, `${item.name}, ${kind} ${i}`, result, wanted, implied);
    }
  }

  test.run();
}
