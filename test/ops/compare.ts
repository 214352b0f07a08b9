/** Holds an op to its float64 reference: values directly, gradients by central differences of the reference. */
import * as assert from 'uvu/assert';
import { Random } from '../../src/random.js';
import { limits } from '../../src/ops/limits.js';
import * as tf from '../../src/tf.js';
import { size, type Array64 } from './reference.js';

export interface OpCase {
  /** Shapes of the float inputs, in the order of the arguments of `op` and `reference`. */
  readonly shapes: readonly (readonly number[])[];
  readonly op: (...inputs: tf.Tensor[]) => tf.Tensor[];
  readonly reference: (...inputs: Array64[]) => Array64[];
  readonly seed?: number;
  /** Made from standard normal values; default: unchanged. */
  readonly prepare?: (values: Float64Array, input: number) => Float64Array;
  readonly tolerance?: number;
}

/** Coordinates of every input whose derivative is compared. */
const COORDINATES = 10;
const STEP = 1e-5;

/** Compares values and gradients, and checks that neither leaves a tensor behind. */
export function compareOp(test: OpCase): void {
  const { shapes, op, reference, tolerance = 1e-4 } = test;
  const random = new Random(test.seed ?? 1);
  const arrays = shapes.map((shape, input): Array64 => {
    const values = Float64Array.from({ length: size(shape) }, () => random.normal());
    // Rounded to what a float32 tensor holds, so that both sides start from the same numbers.
    return { shape, data: Float64Array.from(Float32Array.from(test.prepare?.(values, input) ?? values)) };
  });
  const expected = reference(...arrays);
  const weights = expected.map(({ data }) => Float64Array.from(data, () => random.normal()));

  const before = tf.memory().numTensors;
  const inputs = arrays.map((array) => tf.tensor(Float32Array.from(array.data), [...array.shape]));
  const outputs = tf.tidy(() => op(...inputs));
  assert.is(outputs.length, expected.length, 'number of outputs');
  for (const [i, output] of outputs.entries()) {
    assert.equal(output.shape, [...(expected[i] as Array64).shape], `shape of output ${i}`);
    close(output, (expected[i] as Array64).data, tolerance, `output ${i}`);
  }
  const gradients = tf.tidy(() => tf.grads((...xs: tf.Tensor[]) => weightedSum(op(...xs), weights))(inputs));
  for (const [i, gradient] of gradients.entries()) {
    assert.equal(gradient.shape, [...(shapes[i] as readonly number[])], `shape of gradient ${i}`);
    compareGradient(gradient, i, arrays, weights, reference, random, tolerance);
  }
  tf.dispose([inputs, outputs, gradients]);
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
}

function weightedSum(outputs: tf.Tensor[], weights: Float64Array[]): tf.Scalar {
  const parts = outputs.map((output, i) =>
    tf.sum(tf.mul(output, tf.tensor(Float32Array.from(weights[i] as Float64Array), output.shape))),
  );
  return parts.reduce((sum, part) => tf.add(sum, part)) as tf.Scalar;
}

function compareGradient(
  gradient: tf.Tensor,
  input: number,
  arrays: readonly Array64[],
  weights: readonly Float64Array[],
  reference: OpCase['reference'],
  random: Random,
  tolerance: number,
): void {
  const found = gradient.dataSync();
  const array = arrays[input] as Array64;
  const objective = (): number =>
    reference(...arrays).reduce(
      (sum, { data }, i) =>
        sum +
        data.reduce((inner, value, j) => inner + value * ((weights[i] as Float64Array)[j] as number), 0),
      0,
    );
  const scale = Math.max(1e-2, ...found.map(Math.abs));
  for (let n = 0; n < Math.min(COORDINATES, array.data.length); n++) {
    const coordinate = random.below(array.data.length);
    const value = array.data[coordinate] as number;
    array.data[coordinate] = value + STEP;
    const up = objective();
    array.data[coordinate] = value - STEP;
    const down = objective();
    array.data[coordinate] = value;
    const slope = (up - down) / (2 * STEP);
    const error = Math.abs((found[coordinate] as number) - slope);
    const message = `gradient of input ${input} at ${coordinate}: ${found[coordinate] as number} against ${slope}`;
    assert.ok(error <= tolerance * scale, message);
  }
}

/** Runs `body` in a tidy with other limits of the composed ops. */
export function withLimits(changed: Partial<typeof limits>, body: () => void): void {
  const usual = { ...limits };
  Object.assign(limits, changed);
  try {
    tf.tidy(body);
  } finally {
    Object.assign(limits, usual);
  }
}

/** Largest difference within `tolerance` of the largest expected magnitude (of 1 at least). */
export function close(found: tf.Tensor, expected: ArrayLike<number>, tolerance: number, what: string): void {
  const values = found.dataSync();
  assert.is(values.length, expected.length, `${what}: number of elements`);
  let [worst, scale] = [0, 1];
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs((values[i] as number) - (expected[i] as number));
    worst = Math.max(worst, Number.isNaN(difference) ? Infinity : difference);
    scale = Math.max(scale, Math.abs(expected[i] as number));
  }
  assert.ok(worst <= tolerance * scale, `${what}: off by ${worst}, scale ${scale}`);
}
