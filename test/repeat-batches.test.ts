/** `tf.matMul` of tfjs' plain backend, with batch dimensions broadcast anywhere, beside the product of repeated operands. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import * as tf from '../src/tf.js';
import { leakedTensors } from './plain-backend.js';

const test = suite('batched products');

test.before(async () => {
  await tf.setBackend('cpu');
});

/** Batch dimensions of both operands. */
const BATCHES = [
  [[2, 1], [2, 3]],
  [[2, 3], [2, 1]],
  [[2, 1], [3]],
  [[3], [2, 1]],
  [[2, 3, 4], [3, 1]],
  [[1, 3, 1], [2, 1, 2]],
  [[2, 1, 3, 1], [1, 4, 1, 2]],
  [[1, 1], [2, 3]],
  [[2, 3], []],
] as const; // prettier-ignore

for (const [a, b] of BATCHES) {
  test(`[${a.join()}] with [${b.join()}]`, () => {
    const leaked = leakedTensors(() => {
      tf.tidy(() => {
        const [x, y] = [tf.randomNormal([...a, 2, 3]), tf.randomNormal([...b, 4, 3])];
        const shape = tf.broadcast_util.assertAndGetBroadcastShape([...a], [...b]);
        const whole = (tensor: tf.Tensor): tf.Tensor =>
          tf.broadcastTo(tensor, [...shape, ...tensor.shape.slice(-2)]);
        const product = tf.matMul(x, y, false, true);
        assert.equal(product.shape, [...shape, 2, 4]);
        const expected = tf.matMul(whole(x), whole(y), false, true);
        assert.equal(product.arraySync(), expected.arraySync());
      });
    });
    assert.is(leaked, 0);
  });
}

test.run();
