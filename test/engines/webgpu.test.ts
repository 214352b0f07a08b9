import { existsSync } from 'node:fs';
import koffi from 'koffi';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startWebgpu } from '../../src/engines/webgpu/index.js';
import { adamW, causalAttention, gatedRetention, linear, linearCrossEntropy, logDecay, rmsNorm, rotary, swiglu } from '../../src/ops/index.js'; // prettier-ignore
import { presetConfig, createModel } from '../../src/model/index.js';
import * as tf from '../../src/tf.js';
import { skipBecause } from '../skip.js';
import { assertClose, onPlainBackend, random, type Result } from './parity.js';

/** Debian's chromium brings a Vulkan driver that runs on the CPU, and the loader that finds it, which may be nowhere else. */
const SOFTWARE_DRIVER = '/usr/lib/chromium/vk_swiftshader_icd.json';
const SOFTWARE_LOADER = '/usr/lib/chromium/libvulkan.so.1';
const hasGpu = existsSync('/dev/dri');
const software = !hasGpu && existsSync(SOFTWARE_DRIVER);
if (software) process.env.VK_ICD_FILENAMES ??= SOFTWARE_DRIVER;
// While it is loaded it is what the engine finds by name.
const loader = software && existsSync(SOFTWARE_LOADER) ? koffi.load(SOFTWARE_LOADER) : null;

const test = suite('webgpu engine');

if (!hasGpu && !software) {
  skipBecause('no GPU and no software Vulkan driver (Debian: chromium)', test, 'ops and models');
} else {
  test.after(() => {
    loader?.unload();
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

  test('norms, rotary, SwiGLU and losses, with gradients', () =>
    parity(() => {
      const f = (x: tf.Tensor, w: tf.Tensor) => {
        const frequencies = Float64Array.of(1, 0.1, 0.01, 0.001);
        const heads = tf.reshape<tf.Rank.R4>(rmsNorm(linear(x, w), null, 1e-5), [2, 5, 3, 8]);
        const turned = rotary(heads, { start: 100_000, frequencies, style: 'interleaved' });
        const hidden = tf.reshape<tf.Rank.R2>(swiglu(turned, heads), [10, 24]);
        const targets = tf.tensor1d([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 'int32');
        return tf.sum<tf.Scalar>(linearCrossEntropy(hidden, tf.mul<tf.Tensor2D>(w, 2), targets));
      };
      return tf.grads(f)([random([10, 24], 1), random([24, 24], 2)]);
    }));

  test('attention and gated retention, with gradients', () =>
    parity(() => {
      const [q, k, v] = [1, 2, 3].map((seed) => random([2, 70, 2, 8], seed) as tf.Tensor4D);
      const f = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) => {
        const attended = causalAttention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, { window: 9 });
        const decay = logDecay(tf.sum<tf.Tensor3D>(k, 3), 16);
        const retained = gatedRetention(attended, k as tf.Tensor4D, v as tf.Tensor4D, decay);
        return tf.sum<tf.Scalar>(tf.square(retained.output));
      };
      return tf.grads(f)([q as tf.Tensor, k as tf.Tensor, v as tf.Tensor]);
    }));

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
