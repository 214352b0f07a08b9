/** What the engine computes in float32 whatever its storage, on a device that computes nothing. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startOn } from '../../../src/engines/cuda/index.js';
import { float32, float32Tensor } from '../../../src/ops/float32.js';
import { gatedDeltaRule } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { type Launch, standIn } from './stand-in.js';

const test = suite('cuda float32');
// 150 positions do not fill their chunks: zeros are added. The gradient of keys of more than 128 is composed.
const [BATCH, TIME, HEADS, KEYS, VALUES] = [1, 150, 2, 136, 24];

/** What is launched while `work` runs, with storage of 16 bits. */
async function launchesOf(work: () => void): Promise<Launch[]> {
  const on = standIn();
  await startOn(on.device);
  try {
    tf.tidy(() => {
      work();
    });
  } finally {
    await tf.setBackend('cpu');
  }
  return on.launches;
}

const ones = (...shape: number[]): tf.Tensor => tf.fill(shape, 1);

test('the gradient of the gated delta rule of wide keys', async () => {
  const launches = await launchesOf(() => {
    const gradient = tf.grads((q, k, v, decay, beta) => {
      const [keys, decays] = [k as tf.Tensor4D, decay as tf.Tensor3D];
      return tf.sum(
        gatedDeltaRule(q as tf.Tensor4D, keys, v as tf.Tensor4D, decays, beta as tf.Tensor3D).output,
      );
    });
    const keys = [BATCH, TIME, HEADS, KEYS];
    const gates = [BATCH, TIME, HEADS];
    gradient([
      ones(...keys),
      ones(...keys),
      ones(BATCH, TIME, HEADS, VALUES),
      ones(...gates),
      ones(...gates),
    ]);
  });
  const start = launches.findIndex(({ name }) => name === 'delta_step');
  const narrow = launches
    .slice(start + 1)
    .filter(({ name, storage }) => storage === 'bfloat16' && !/^(cast|fill|copy)/.test(name))
    .map(({ name }) => name);
  assert.ok(launches.filter(({ name }) => name === 'product').length > 20);
  // The sum that is differentiated, outside of the rule.
  assert.equal(narrow, ['rows_Sum_float32', 'unary_MultiplyScalar']);
});

test('zeros and products of what is kept in float32', async () => {
  await launchesOf(() => {
    const storage = (x: tf.Tensor): string => {
      const { dataId } = x;
      const backend = tf.backend() as unknown as { storageFor(info: object): string };
      return backend.storageFor({ dataId });
    };
    const [wide, narrow, zeros] = [float32(ones(16, 16)), ones(16, 16), tf.zeros([16, 16])];
    assert.is(storage(tf.concat([wide, zeros], 0)), 'float32');
    assert.is(storage(tf.concat([narrow, tf.zeros([16, 16])], 0)), 'bfloat16');
    assert.is(storage(tf.add(tf.zeros([16, 16]), tf.zeros([16, 16]))), 'bfloat16');
    assert.is(storage(tf.matMul(wide, wide)), 'float32');
    assert.is(storage(tf.cumsum(wide, 0)), 'float32');
    assert.is(storage(tf.matMul(wide, narrow)), 'bfloat16');
  });
});

test('values of a snapshot are not rounded on their way to the device', async () => {
  const values = Float32Array.from({ length: 300 }, (_, i) => 1 + i / 1e6);
  const launches = await launchesOf(() => {
    const exact = float32Tensor(values, [30, 10]);
    const backend = tf.backend() as unknown as { storageFor(info: object): string };
    assert.is(backend.storageFor({ dataId: exact.dataId }), 'float32');
  });
  assert.equal(
    launches.map(({ name }) => name),
    ['copy'],
  );
  await tf.setBackend('cpu');
  const plain = float32Tensor(values, [30, 10]);
  assert.equal([plain.shape, [...plain.dataSync()]], [[30, 10], [...values]]);
  plain.dispose();
});

test.run();
