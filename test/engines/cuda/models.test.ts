/** Whole models in 16-bit storage against the plain backend: logits, routes, gradients, and losses of a short training. */
import * as assert from 'uvu/assert';
import {
  type LanguageModel,
  createConfig,
  createModel,
  valueAndGradients,
} from '../../../src/model/index.js';
import { Optimizer } from '../../../src/training/optimizer.js';
import * as tf from '../../../src/tf.js';
import { relativeError } from '../relative-error.js';
import { CUDA, Inputs, gpuSuite } from './gpu.js';

const SHAPE = { dim: 32, layers: 2, hiddenDim: 48, heads: 4, kvHeads: 2, vocabSize: 61 };
const CONFIGS = {
  'gated retention': createConfig({ ...SHAPE, selfHeads: 2 }),
  'sliding window': createConfig({ ...SHAPE, selfHeads: 2, slidingWindow: 9 }),
  transformer: createConfig({ ...SHAPE, architecture: 'transformer' }),
};
/** Rounding of every layer adds up. */
const TOLERANCE = 5e-2;

const [BATCH, TIME] = [2, 70];
const ids = new Inputs(5).integers([BATCH, TIME], SHAPE.vocabSize).values as Int32Array;
const tokens = (): tf.Tensor2D => tf.tensor2d(ids, [BATCH, TIME], 'int32');

async function onBackend<T>(
  name: string,
  config: keyof typeof CONFIGS,
  body: (model: LanguageModel) => T,
): Promise<T> {
  await tf.setBackend(name);
  const model = createModel(CONFIGS[config], { seed: 3 });
  const result = body(model);
  model.dispose();
  return result;
}

function loss(model: LanguageModel): tf.Scalar {
  const input = tf.slice(tokens(), [0, 0], [BATCH, TIME - 1]);
  const targets = tf.slice(tokens(), [0, 1], [BATCH, TIME - 1]);
  return tf.mean(model.loss(input, targets));
}

function trainingLosses(model: LanguageModel): number[] {
  const optimizer = new Optimizer(model.parameters, {
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weightDecay: 0.1,
    clip: 1,
  });
  const losses = Array.from({ length: 4 }, (_, step) => {
    const { value, gradients } = valueAndGradients(model, () => loss(model));
    optimizer.apply(gradients, step + 1, 3e-3);
    const read = value.dataSync()[0] ?? NaN;
    tf.dispose([value, ...gradients.values()]);
    return read;
  });
  optimizer.dispose();
  return losses;
}

for (const storage of ['float32', 'bfloat16'] as const) {
  const test = await gpuSuite(`cuda models, ${storage}`, { storage });
  const tolerance = storage === 'float32' ? 1e-3 : TOLERANCE;

  for (const config of Object.keys(CONFIGS) as (keyof typeof CONFIGS)[]) {
    test(`${config}: logits, prefill and decoding`, async () => {
      const forward = (model: LanguageModel): tf.TypedArray =>
        tf.tidy(() => model.forward(tokens()).dataSync().slice());
      const expected = await onBackend('cpu', config, forward);
      const found = await onBackend(CUDA, config, (model) => {
        const cache = model.createCache({ batch: BATCH, maxTokens: TIME });
        const routes = tf.tidy(() => {
          const prefilled = model.prefill(tf.slice(tokens(), [0, 0], [BATCH, TIME - 1]), cache, {
            chunkSize: 40,
          });
          const last = tf.reshape<tf.Rank.R1>(tf.slice(tokens(), [0, TIME - 1], [BATCH, 1]), [BATCH]);
          return [prefilled, model.decode(last, cache)].map((logits) => logits.dataSync().slice());
        });
        cache.dispose();
        return { forward: forward(model), routes };
      });
      assert.ok(relativeError(found.forward, expected) <= tolerance, 'forward');
      for (const [index, position] of [TIME - 2, TIME - 1].entries()) {
        const rows = Array.from({ length: BATCH }, (_, b) => {
          const start = (b * TIME + position) * SHAPE.vocabSize;
          return Array.from(expected.subarray(start, start + SHAPE.vocabSize));
        });
        const error = relativeError(found.routes[index] ?? [], rows.flat());
        assert.ok(error <= tolerance, `route ${index} is off by ${error}`);
      }
    });

    test(`${config}: training losses track the plain backend's`, async () => {
      const expected = await onBackend('cpu', config, trainingLosses);
      const found = await onBackend(CUDA, config, trainingLosses);
      for (const [step, value] of expected.entries()) {
        const error = Math.abs((found[step] ?? NaN) - value) / value;
        assert.ok(error <= tolerance / 2, `step ${step}: loss ${found[step] ?? NaN} against ${value}`);
      }
    });
  }

  test.run();
}
