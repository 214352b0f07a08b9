import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { adamW } from '../../src/ops/adamw/adamw.js';
import { crossEntropy } from '../../src/ops/cross-entropy/cross-entropy.js';
import { linearCrossEntropy } from '../../src/ops/cross-entropy/linear-cross-entropy.js';
import { limits } from '../../src/ops/limits.js';
import * as tf from '../../src/tf.js';
import { assertOpParity, assertParity, random, randomValues } from './parity.js';

const test = suite('cpu engine: fused losses and optimizer');

function targets(rows: number, vocabSize: number): tf.Tensor1D {
  return tf.tensor1d(
    Int32Array.from({ length: rows }, (_, i) => (i * 7919) % vocabSize),
    'int32',
  );
}

for (const [rows, vocabSize] of [
  [1, 2],
  [37, 50],
  [5, 3001],
] as const)
  test(`crossEntropy, ${rows} rows of ${vocabSize}`, () =>
    assertOpParity([[rows, vocabSize]], ([x]) =>
      crossEntropy(tf.mul<tf.Tensor2D>(x, 30), targets(rows, vocabSize)),
    ));

const linearLoss = (rows: number, width: number, vocabSize: number) =>
  assertOpParity(
    [
      [rows, width],
      [vocabSize, width],
    ],
    ([x, weight]) => linearCrossEntropy(x as tf.Tensor2D, weight as tf.Tensor2D, targets(rows, vocabSize)),
  );

test('linearCrossEntropy', async () => {
  await linearLoss(1, 1, 2);
  await linearLoss(37, 9, 50);
});

test('linearCrossEntropy in blocks of rows', async () => {
  const before = limits.logitElements;
  limits.logitElements = 500;
  await linearLoss(37, 9, 50);
  limits.logitElements = before;
});

test('adamW, step after step', () =>
  assertParity(() => {
    const shape = [33, 50];
    const [parameter, first, second] = [random(shape, 1), tf.zeros(shape), tf.zeros(shape)].map((x) =>
      tf.variable(x),
    ) as [tf.Variable, tf.Variable, tf.Variable];
    for (let step = 1; step <= 3; step++) {
      const options = { learningRate: 0.1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, step };
      const scale = step === 2 ? { scale: tf.scalar(0.5) } : {};
      adamW(parameter, random(shape, 10 + step), first, second, { ...options, ...scale });
    }
    const results = [parameter, first, second].map((x) => tf.clone(x));
    tf.dispose([parameter, first, second]);
    return results;
  }));

test('adamW leaves the array alone that a parameter was made from', async () => {
  const values = randomValues(2000, 1);
  await assertParity(() => {
    const make = (x: Float32Array) => tf.variable(tf.tensor1d(x));
    const all = [make(values), make(new Float32Array(2000)), make(new Float32Array(2000))] as const;
    const options = { learningRate: 0.1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, step: 1 };
    adamW(all[0], random([2000], 2), all[1], all[2], options);
    const result = tf.clone(all[0]);
    tf.dispose([...all]);
    return result;
  });
  assert.equal(values, randomValues(2000, 1));
});

test.run();
