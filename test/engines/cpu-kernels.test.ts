import * as tf from '../../src/tf.js';
import { suite } from 'uvu';
import { assertParity, random } from './parity.js';

const test = suite('cpu engine: tfjs kernels');

/** Shapes that broadcast in every way: rows, columns, both, scalars, repeats in the middle. */
const BROADCASTS: [number[], number[]][] = [
  [
    [33, 65],
    [33, 65],
  ],
  [[33, 65], [65]],
  [
    [33, 65],
    [33, 1],
  ],
  [[33, 65], []],
  [
    [1, 65],
    [33, 1],
  ],
  [
    [3, 1, 5, 129],
    [7, 1, 129],
  ],
  [
    [2, 9, 1, 130],
    [2, 1, 4, 130],
  ],
];

const BINARY = { add: tf.add, sub: tf.sub, mul: tf.mul, div: tf.div, maximum: tf.maximum, minimum: tf.minimum, squaredDifference: tf.squaredDifference, greater: tf.greater, greaterEqual: tf.greaterEqual, less: tf.less, lessEqual: tf.lessEqual, equal: tf.equal }; // prettier-ignore

for (const [name, operation] of Object.entries(BINARY))
  test(`${name} broadcasts`, async () => {
    for (const [a, b] of BROADCASTS)
      await assertParity(() => operation(random(a, 1), random(b, 2)), {
        message: `${name} ${a.join()} ${b.join()}`,
      });
  });

const UNARY = { abs: tf.abs, cos: tf.cos, erf: tf.erf, exp: tf.exp, floor: tf.floor, neg: tf.neg, relu: tf.relu, sigmoid: tf.sigmoid, sign: tf.sign, sin: tf.sin, softplus: tf.softplus, square: tf.square, tanh: tf.tanh, logSigmoid: tf.logSigmoid }; // prettier-ignore
for (const [name, operation] of Object.entries(UNARY))
  test(`${name} of both signs and both ends`, () =>
    assertParity(() => operation(random([41, 77], 3).mul(30)), { message: name, tolerance: 1e-6 }));

const POSITIVE = { log: tf.log, sqrt: tf.sqrt, rsqrt: tf.rsqrt, reciprocal: tf.reciprocal };
for (const [name, operation] of Object.entries(POSITIVE))
  test(`${name} of positive numbers`, () =>
    assertParity(() => operation(random([41, 77], 4).abs().add(1e-3)), { message: name, tolerance: 1e-6 }));

test('exp and softmax take -Infinity as a mask', () =>
  assertParity(() => {
    const x = random([40, 60], 5);
    const masked = tf.where(tf.greater(x, 0), tf.fill([40, 60], -Infinity), x);
    return [tf.exp(masked), tf.softmax(masked)];
  }));

for (const [a, b, transposeA, transposeB] of [
  [[37, 53], [53, 41], false, false],
  [[53, 37], [41, 53], true, true],
  [[5, 37, 53], [5, 53, 41], false, false],
  [[5, 53, 37], [1, 41, 53], true, true],
  [[2, 3, 9, 31], [31, 43], false, false],
  [[1, 9, 31], [6, 31, 43], false, false],
] as [number[], number[], boolean, boolean][])
  test(`matMul ${a.join('x')} by ${b.join('x')}`, () =>
    assertParity(() => tf.matMul(random(a, 6), random(b, 7), transposeA, transposeB)));

test('matMul broadcasts a dimension in the middle', () =>
  // tfjs' plain backend confuses the batches of this case unless they are repeated beforehand.
  assertParity(() => {
    const [a, b] = [random([2, 1, 9, 31], 6), random([2, 3, 43, 31], 7)];
    const onEngine = tf.getBackend() !== 'cpu';
    return tf.matMul(onEngine ? a : tf.tile(a, [1, 3, 1, 1]), b, false, true);
  }));

test('reductions over every set of axes', async () => {
  const shape = [3, 17, 1, 5, 19];
  for (const axes of [undefined, [0], [1], [4], [0, 1], [0, 4], [1, 3], [-1, -2], [0, 1, 2, 3, 4], [2]])
    await assertParity(
      () => {
        const x = random(shape, 8);
        const results = [tf.sum(x, axes), tf.max(x, axes), tf.mean(x, axes), tf.min(x, axes)];
        return [...results, tf.sum(x, axes, true)];
      },
      { message: `axes ${axes?.join() ?? 'all'}` },
    );
});

test('softmax and logSoftmax', () =>
  assertParity(() => [
    tf.softmax(random([7, 9, 65], 9).mul(20)),
    tf.logSoftmax(random([50, 30], 10).mul(20)),
  ]));

test('transposes', async () => {
  for (const perm of [
    [0, 2, 1, 3],
    [3, 2, 1, 0],
    [0, 1, 3, 2],
    [1, 0, 2, 3],
    [0, 1, 2, 3],
    [2, 3, 0, 1],
  ])
    await assertParity(() => tf.transpose(random([3, 11, 5, 13], 11), perm), { message: perm.join() });
  await assertParity(() => tf.transpose(random([1, 40, 1, 50], 12), [2, 3, 0, 1]));
  await assertParity(() => tf.transpose(random([1, 40, 1, 50], 12), [2, 1, 0, 3]));
});

test('slices, strided slices, splits and unstacking', () =>
  assertParity(() => {
    const x = random([7, 20, 30], 13);
    const parts = [tf.slice(x, [1, 2, 3], [5, 11, -1]), tf.slice(x, 2), tf.slice(x, [2, 3], [1, 10])];
    const strided = tf.stridedSlice(x, [0, 0, 0], [7, 20, 30], [2, 3, 1]);
    const halves = tf.split(x, 2, 2);
    // A view of memory that goes back to the pool must have become a copy.
    const rows = tf.tidy(() => tf.unstack(tf.mul(x, 2), 0));
    random([7, 20, 30], 14).mul(3).dispose();
    return [...parts, strided, ...halves, ...rows];
  }));

test('concat, stack, pad, tile, gather, one-hot', () =>
  assertParity(() => {
    const [a, b] = [random([4, 30, 20], 15), random([4, 17, 20], 16)];
    const joined = [
      tf.concat([a, b], 1),
      tf.concat([a, a.mul(2)], -1),
      tf.concat([a, tf.zeros([0, 30, 20])], 0),
    ];
    const padded = tf.pad(a, [[1, 0], [0, 3], [2, 2]], 5); // prettier-ignore
    const ids = tf.tensor2d([0, 3, 3, 1], [2, 2], 'int32');
    const gathered = [tf.gather(a, ids), tf.gather(a, ids.flatten(), 1), tf.oneHot(ids, 300)];
    return [...joined, tf.stack([a, a]), padded, tf.tile(a, [2, 1, 3]), ...gathered];
  }));

test('where, casts and fills', () =>
  assertParity(() => {
    const x = random([50, 40], 17);
    const mask = tf.greater(x, 0.2);
    const rows = tf.greater(random([50, 1], 18), 0);
    const chosen = [tf.where(mask, x, tf.zerosLike(x)), tf.where(rows, x, tf.onesLike(x))];
    return [...chosen, tf.cast(mask, 'float32'), tf.cast(x.mul(9), 'int32'), tf.fill([60, 60], 1.5), tf.cast(tf.cast(x, 'int32'), 'float32')]; // prettier-ignore
  }));

test('empty tensors', () =>
  assertParity(() => {
    const x = tf.zeros([0, 40]);
    return [tf.add(x, x), tf.matMul(x, tf.ones([40, 50])), tf.sum(x), tf.concat([x, tf.ones([30, 40])], 0)];
  }));

test('cumulative sums, sums of many, top-k, arg-max', () =>
  assertParity(() => {
    const x = random([30, 50], 19);
    const top = tf.topk(x, 3);
    return [
      tf.cumsum(x, 1),
      tf.addN([x, x, x]),
      top.values,
      top.indices,
      tf.argMax(x, 1),
      tf.mean(tf.zerosLike(x)),
    ];
  }));

test('gradients of a small network', () =>
  assertParity(() => {
    const f = (x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) => {
      const hidden = tf.add(tf.matMul(x, w, false, true), b);
      const gated = tf.mul(tf.sigmoid(hidden), hidden).reshape([6, 4, 8, 33]);
      const mixed = tf.softmax(tf.transpose(gated, [0, 2, 1, 3]));
      return tf.mean(tf.square(tf.slice(mixed, [0, 0, 1], [-1, -1, 2])));
    };
    return tf.grads(f)([random([6 * 4 * 8, 20], 20), random([33, 20], 21), random([33], 22)]);
  }));

test.run();
