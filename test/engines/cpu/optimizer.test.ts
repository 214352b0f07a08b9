import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCpu } from '../../../src/engines/cpu/index.js';
import { adamW, clipScale, sumOfSquares } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { random, randomValues } from '../parity.js';

const test = suite('cpu engine: optimizer');

test('adamW leaves the array alone that a parameter was made from', async () => {
  await startCpu({ threads: 2 });
  const values = randomValues(2000, 1);
  const make = (x: Float32Array) => tf.variable(tf.tensor1d(x));
  const all = [make(values), make(new Float32Array(2000)), make(new Float32Array(2000))] as const;
  const options = { learningRate: 0.1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, step: 1 };
  adamW(all[0], random([2000], 2), all[1], all[2], options);
  assert.not.equal(all[0].dataSync().slice(), randomValues(2000, 1));
  assert.equal(values, randomValues(2000, 1));
  tf.dispose([...all]);
});

test('the norm of large tensors is as precise as that of small ones', async () => {
  await startCpu({ threads: 2 });
  const values = randomValues(3_000_001, 3);
  const expected = values.reduce((sum, value) => sum + value * value, 0);
  for (const shape of [[3_000_001], [1, 1, 3_000_001]]) {
    const tensor = tf.tensor(values, shape);
    const found = sumOfSquares([tensor, tf.zeros([3])]);
    assert.ok(Math.abs(found / expected - 1) < 4e-6, `${found} ${expected}`);
    const { norm, scale } = clipScale([tensor], 1);
    assert.ok(Math.abs(Number(norm) / Math.sqrt(expected) - 1) < 2e-6);
    tf.dispose([tensor, ...(scale ? [scale] : [])]);
  }
});

test.after(async () => {
  await tf.setBackend('cpu');
});
test.run();
