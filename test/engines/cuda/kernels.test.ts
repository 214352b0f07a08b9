import * as tf from '../../../src/tf.js';
import { TOLERANCE } from '../relative-error.js';
import { compare, gpuSuite, withGradients } from './gpu.js';

for (const storage of ['float32', 'bfloat16', 'float16'] as const) {
  const test = await gpuSuite(`cuda standard kernels, ${storage}`, { storage, seed: 17 });
  const tolerance = TOLERANCE[storage];

  test('products, transposed and batched', async (inputs) => {
    for (const [m, n, k, batch] of [[5, 7, 3, 1], [64, 96, 40, 2], [129, 65, 257, 3]] as const) {
      for (const transposeA of [false, true]) {
        for (const transposeB of [false, true]) {
          const a = inputs.normal(transposeA ? [batch, k, m] : [batch, m, k]);
          const b = inputs.normal(transposeB ? [1, n, k] : [1, k, n]);
          await compare('BatchMatMul', tolerance, [a, b], (x, y) => [tf.matMul(x, y, transposeA, transposeB)]);
        }
      }
    }
  }); // prettier-ignore

  test('arithmetic with broadcasting and constants', async (inputs) => {
    const shapes = [[[3, 5, 7], [3, 5, 7]], [[3, 5, 7], [7]], [[3, 1, 7], [5, 1]], [[2, 1, 3, 1, 5], [4, 1, 6, 1]], [[], [9]]] as const; // prettier-ignore
    for (const [left, right] of shapes) {
      const pair = [inputs.normal([...left]), inputs.normal([...right], 0.5, 3)];
      await compare('arithmetic', tolerance, pair, (a, b) => [
        tf.add(a, b), tf.sub(a, b), tf.mul(a, b), tf.div(a, b), tf.maximum(a, b), tf.minimum(a, b),
        tf.squaredDifference(a, b), tf.pow(tf.abs(a), b), tf.mod(a, b),
      ]); // prettier-ignore
    }
    await compare('constants', tolerance, [inputs.normal([33], 1, 2)], (a) => [
      tf.add(a, 1.5), tf.sub(2, a), tf.mul(a, -3), tf.div(1, a), tf.div(a, 4), tf.maximum(a, 0.5), tf.pow(a, 2),
    ]); // prettier-ignore
  });

  test('functions of one argument', async (inputs) => {
    const positive = inputs.normal([1001], 0.3, 2);
    await compare('positive', tolerance, [positive], (x) => [
      tf.log(x),
      tf.sqrt(x),
      tf.rsqrt(x),
      tf.reciprocal(x),
    ]);
    await compare('any', tolerance, [inputs.normal([7, 143])], (x) => [
      tf.exp(x), tf.neg(x), tf.square(x), tf.sigmoid(x), tf.tanh(x), tf.abs(x), tf.softplus(x), tf.relu(x), tf.sign(x),
      tf.clipByValue(x, -0.5, 0.75), tf.floor(x), tf.erf(x), tf.logSigmoid(x), tf.elu(x), tf.step(x), tf.sin(x),
    ]); // prettier-ignore
  });

  test('comparison, choice and types', async (inputs) => {
    const pair = [inputs.normal([6, 11]), inputs.normal([11]), inputs.integers([6, 11], 5)];
    await compare('choice', tolerance, pair, (a, b, n) => [
      tf.where(tf.greater(a, b), a, tf.zerosLike(a)), tf.cast(tf.lessEqual(a, b), 'float32'), tf.cast(a, 'int32'),
      tf.cast(tf.equal(n, 3), 'int32'), tf.cast(n, 'float32'), tf.logicalAnd(tf.greater(a, 0), tf.less(a, b)),
      tf.add(n, n), tf.floorDiv(n, tf.scalar(2, 'int32')), tf.oneHot(tf.cast(n, 'int32'), 5), tf.any(tf.greater(a, 1), 1),
    ]); // prettier-ignore
  });

  test('reductions', async (inputs) => {
    for (const axes of [[2], [0], [1], [0, 1], [1, 2], [0, 2], [0, 1, 2]]) {
      await compare(`reduce ${axes.join()}`, tolerance, [inputs.normal([13, 70, 37], 1, 0.5)], (x) => [
        tf.sum(x, axes), tf.mean(x, axes, true), tf.max(x, axes), tf.min(x, axes),
      ]); // prettier-ignore
    }
    await compare('rows', tolerance, [inputs.normal([5, 3001], 2)], (x) => [
      tf.softmax(x), tf.logSoftmax(x), tf.argMax(x, 1), tf.argMin(x, 0), tf.logSumExp(x, 1),
    ]); // prettier-ignore
    for (const extent of [200_003, 262_144]) {
      await compare('long rows', tolerance, [inputs.normal([3, extent], 1, 0.5)], (x) => [
        tf.sum(x), tf.mean(x, 1), tf.max(x, 1), tf.min(x), tf.argMax(x, 1), tf.argMin(x, 1),
      ]); // prettier-ignore
    }
    const exact = inputs.normal([9, 90], 0.1);
    await compare('cumsum', tolerance, [exact], (x) => [
      tf.cumsum(x, 1),
      tf.cumsum(x, 0, true),
      tf.cumsum(x, 1, false, true),
    ]);
    await compare('integers', 0, [inputs.integers([12, 13], 100)], (n) => [
      tf.sum(n, 0),
      tf.max(n, 1),
      tf.sum(n),
    ]);
  });

  test('layout', async (inputs) => {
    const x = inputs.normal([6, 10, 16]);
    await compare('layout', 0, [x, inputs.integers([9], 6)], (x, ids) => [
      tf.transpose(x, [2, 0, 1]), tf.transpose(x, [1, 0, 2]), tf.slice(x, [1, 2, 3], [4, 5, 8]), tf.slice(x, [0, 2, 0], [6, 4, 16]),
      tf.concat([x, x], 1), tf.concat([x, tf.slice(x, [0, 0, 0], [6, 10, 3])], 2), tf.pad(x, [[1, 0], [0, 2], [3, 1]], 7),
      tf.tile(x, [2, 1, 3]), tf.reverse(x, [0, 2]), tf.stridedSlice(x, [0, 9, 1], [6, 0, 16], [2, -3, 4]), tf.stack([x, x], 1),
      ...tf.unstack(x, 1).slice(2, 4), ...tf.split(x, [2, 4], 0), tf.gather(x, ids.cast('int32')), tf.gather(x, ids.cast('int32'), 1),
      tf.broadcastTo(tf.slice(x, [0, 0, 0], [6, 1, 16]), [6, 10, 16]), tf.expandDims(x, 1), tf.range(0, 10, 3), tf.fill([3, 4], 2.5),
    ]); // prettier-ignore
    await compare('on the host', tolerance, [inputs.normal([4, 30])], (x) => Object.values(tf.topk(x, 3)));
  });

  test('gradients of the standard operations', async (inputs) => {
    const body = (a: tf.Tensor, b: tf.Tensor): tf.Tensor =>
      tf.matMul(tf.softmax(tf.mul(a, 2)), tf.tanh(tf.transpose(b)));
    const operands = [inputs.normal([11, 24]), inputs.normal([7, 24])];
    await compare('gradients', tolerance, operands, withGradients(body, inputs.normal([11, 7])));
    const gather = (w: tf.Tensor): tf.Tensor => tf.gather(w, tf.tensor1d([1, 3, 3, 0], 'int32'));
    await compare(
      'gather gradient',
      tolerance,
      [inputs.normal([5, 6])],
      withGradients(gather, inputs.normal([4, 6])),
    );
  });

  test.run();
}
