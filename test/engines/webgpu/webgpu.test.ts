import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startWebgpu } from '../../../src/engines/webgpu/index.js';
import { adamW } from '../../../src/ops/index.js';
import { presetConfig, createModel } from '../../../src/model/index.js';
import * as tf from '../../../src/tf.js';
import { skipBecause } from '../../skip.js';
import { useDriver, whyNoWebgpu } from './driver.js';
import { assertClose, onPlainBackend, random, type Result } from '../parity.js';

const test = suite('webgpu engine');

if (whyNoWebgpu !== null) {
  skipBecause(whyNoWebgpu, test, 'the engine and models');
} else {
  let release = (): void => undefined;
  test.before(() => {
    release = useDriver();
  });
  test.after(() => {
    release();
  });
  const parity = async (compute: () => tf.Tensor | tf.Tensor[], tolerance = 1e-4): Promise<void> => {
    const expected = await onPlainBackend(compute);
    await startWebgpu();
    const tensors = tf.tidy(() => [compute()].flat());
    const actual = tensors.map((x): Result => ({ shape: x.shape, values: Float32Array.from(x.dataSync()) }));
    tf.dispose(tensors);
    assertClose(actual, expected, tolerance, '');
  };

  test('reads synchronously, and counts live and peak bytes', async () => {
    const engine = await startWebgpu();
    const before = engine.memory().liveBytes;
    engine.resetPeak();
    const sum = tf.tidy(() => tf.sum(tf.mul(random([100, 300], 1), 2)));
    const expected = Array.from(random([100, 300], 1).dataSync()).reduce((total, x) => total + 2 * x, 0);
    assert.ok(Math.abs((sum.dataSync()[0] ?? 0) - expected) < 1e-2);
    assert.ok(engine.memory().peakBytes >= before + 2 * 100 * 300 * 4);
    sum.dispose();
    await engine.synchronize();
  });

  test('a model prefills, decodes and takes an optimizer step', () =>
    parity(() => {
      const model = createModel(presetConfig('pico', 'yoco'), { seed: 1 });
      const cache = model.createCache({ maxTokens: 64 });
      const ids = (count: number) => Int32Array.from({ length: count }, (_, i) => (i * 31) % 200);
      const prompt = tf.tensor2d(ids(40), [1, 40], 'int32');
      const first = model.prefill(prompt, cache, { chunkSize: 16 });
      const second = model.decode(tf.tensor1d([7], 'int32'), cache);
      const weight = [...model.parameters.values()][0] as tf.Variable;
      const moments = [tf.variable(tf.zeros(weight.shape)), tf.variable(tf.zeros(weight.shape))] as const;
      const options = {
        learningRate: 0.01,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weightDecay: 0.1,
        step: 1,
      };
      adamW(weight, tf.ones(weight.shape), moments[0], moments[1], options);
      const updated = tf.clone(weight);
      cache.dispose();
      model.dispose();
      tf.dispose([...moments]);
      return [first, second, updated];
    }, 1e-3));
}

test.run();
