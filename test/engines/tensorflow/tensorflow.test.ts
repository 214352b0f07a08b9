/** The TensorFlow engine where its package is built: `YOCO_TENSORFLOW` names the folder (docs/engines.md). */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startTensorflow } from '../../../src/engines/tensorflow/index.js';
import { createModel, presetConfig, valueAndGradients } from '../../../src/model/index.js';
import { adamW } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { skipBecause } from '../../skip.js';
import { assertClose, onPlainBackend, random, type Result } from '../parity.js';
import { whyNoTensorflow } from './build.js';

const test = suite('tensorflow engine');
const missing = await whyNoTensorflow();

function tokens(count: number): tf.Tensor2D {
  const ids = Int32Array.from({ length: count }, (_, i) => (i * 31) % 200);
  return tf.tensor2d(ids, [1, count], 'int32');
}

async function parity(compute: () => tf.Tensor[], tolerance: number): Promise<void> {
  const expected = await onPlainBackend(compute);
  await startTensorflow();
  const before = tf.memory().numTensors;
  const tensors = tf.tidy(compute);
  const actual = tensors.map((x): Result => ({ shape: x.shape, values: Float32Array.from(x.dataSync()) }));
  tf.dispose(tensors);
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
  assertClose(actual, expected, tolerance, '');
}

if (missing !== null) {
  skipBecause(missing, test, 'the engine and models');
} else {
  test('counts live and peak bytes, and waits for what was queued', async () => {
    const engine = await startTensorflow();
    assert.match(engine.description, /^libtensorflow \d+\.\d+/);
    const before = engine.memory().liveBytes;
    engine.resetPeak();
    const sum = tf.tidy(() => tf.sum(tf.mul(random([100, 300], 1), 2)));
    assert.ok(engine.memory().peakBytes >= before + 2 * 100 * 300 * 4);
    sum.dispose();
    await engine.synchronize();
    assert.is(engine.memory().liveBytes, before);
  });

  for (const selfDecoder of ['gated-retention', 'gated-delta-net'] as const) {
    test(`yoco, ${selfDecoder}: prefill, decoding and the gradients of a loss`, () =>
      parity(() => {
        const model = createModel(presetConfig('pico', 'yoco', { selfDecoder }), { seed: 1 });
        const cache = model.createCache({ maxTokens: 64 });
        const logits = model.prefill(tokens(40), cache, { chunkSize: 16 });
        const next = model.decode(tf.tensor1d([7], 'int32'), cache);
        const loss = (): tf.Scalar => tf.mean(model.loss(tokens(40), tokens(40)));
        const { value, gradients } = valueAndGradients(model, loss);
        cache.dispose();
        model.dispose();
        return [logits, next, value, ...gradients.values()];
      }, 2e-3));
  }

  test('a step of the optimizer', () =>
    parity(() => {
      const [weight, ...moments] = [random([30, 20], 1), tf.zeros([30, 20]), tf.zeros([30, 20])].map((x) =>
        tf.variable(x),
      ) as [tf.Variable, tf.Variable, tf.Variable];
      const options = {
        learningRate: 0.01,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weightDecay: 0.1,
        step: 1,
      };
      adamW(weight, random([30, 20], 2), ...moments, options);
      const updated = [weight, ...moments].map((x) => tf.clone(x));
      tf.dispose([weight, ...moments]);
      return updated;
    }, 1e-5));

  test.after(async () => {
    await tf.setBackend('cpu');
  });
}

test.run();
