/** Weights that moved to shared memory for products with one row stay tensors like others. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCpu } from '../../../src/engines/cpu/index.js';
import { adamW } from '../../../src/ops/adamw/adamw.js';
import { linear } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { random, randomValues } from '../parity.js';

const test = suite('cpu engine: products with one row');
const [OUTER, INNER] = [80, 48];
const OPTIONS = { learningRate: 0.1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, step: 1 };

function product(row: Float32Array, weight: ArrayLike<number>): Float32Array {
  return Float32Array.from({ length: OUTER }, (_, i) =>
    row.reduce((sum, x, j) => sum + x * (weight[i * INNER + j] as number), 0),
  );
}

function assertClose(found: ArrayLike<number>, expected: Float32Array): void {
  for (const [i, x] of expected.entries())
    assert.ok(Math.abs(x - (found[i] as number)) < 1e-5, `${i}: ${found[i]}, not ${x}`);
}

test('they are updated, read, copied and released', async () => {
  const engine = await startCpu({ threads: 2 }, { native: false });
  const before = engine.memory().liveBytes;
  const values = randomValues(OUTER * INNER, 1);
  const row = randomValues(INNER, 2);
  const weight = tf.tidy(() => tf.variable(tf.tensor2d(values, [OUTER, INNER])));
  const moments = [1, 2].map(() => tf.tidy(() => tf.variable(tf.zeros([OUTER, INNER]))));
  const x = tf.tensor2d(row, [1, INNER]);
  const multiply = (): Float32Array => tf.tidy(() => linear(x, weight).dataSync<'float32'>().slice());

  assertClose(multiply(), product(row, values));
  const read = weight.dataSync<'float32'>();
  assert.equal(read.slice(), values);

  const gradient = random([OUTER, INNER], 3);
  adamW(weight, gradient, moments[0] as tf.Variable, moments[1] as tf.Variable, OPTIONS);
  assert.equal(values, randomValues(OUTER * INNER, 1), 'the array that was handed in');
  assert.equal(read.slice(), values, 'what was read before');
  const updated = weight.dataSync<'float32'>().slice();
  assert.not.equal(updated, values);
  assertClose(multiply(), product(row, updated));
  assertClose(multiply(), product(row, updated));

  const firstRows = tf.slice(weight, [0, 0], [4, INNER]);
  tf.dispose([weight, ...moments, x, gradient]);
  // Another weight may get the same memory.
  const other = tf.fill([OUTER, INNER], 7);
  tf.tidy(() => {
    linear(tf.ones([1, INNER]), other);
  });
  assert.equal(firstRows.dataSync<'float32'>().slice(), updated.slice(0, 4 * INNER));
  tf.dispose([firstRows, other]);
  assert.is(engine.memory().liveBytes, before);
});

test.after(async () => {
  await tf.setBackend('cpu');
});
test.run();
