/** On a GPU: whole models against the CPU engine in float32: logits by every route, and the losses of a short training. */
import {
  type LanguageModel,
  createConfig,
  createModel,
  valueAndGradients,
} from '../../../src/model/index.js';
import { startCpu } from '../../../src/engines/cpu/index.js';
import { Optimizer } from '../../../src/training/optimizer.js';
import * as tf from '../../../src/tf.js';

import { Inputs } from '../../ops/kernels/contract.js';
import { CUDA, gpuSuite } from './gpu.js';

const SHAPE = { dim: 64, layers: 2, hiddenDim: 96, heads: 4, kvHeads: 2, vocabSize: 61 };
const CONFIGS = {
  'gated retention': createConfig({ ...SHAPE, selfHeads: 2 }),
  'sliding window': createConfig({ ...SHAPE, selfHeads: 2, slidingWindow: 9 }),
  transformer: createConfig({ ...SHAPE, architecture: 'transformer' }),
};
/** Of logits, where the rounding of every layer adds up, and of losses: up to twice what Hopper shows in 16 bits. */
const TOLERANCE = {
  float32: { logits: 1e-5, losses: 1e-5 },
  bfloat16: { logits: 1.2e-2, losses: 2e-3 },
  float16: { logits: 1.5e-3, losses: 5e-4 },
} as const;

const [BATCH, TIME] = [2, 70];
const STEPS = 20;

/** Batch `index` of a stream in which a token says much of the next one, so that there is something to learn. */
function tokens(index = 0, batch = BATCH): tf.Tensor2D {
  const inputs = new Inputs(5 + index);
  let last = 0;
  const ids = Int32Array.from({ length: batch * TIME }, () => {
    last = (3 * last + Math.floor(5 * inputs.uniform())) % SHAPE.vocabSize;
    return last;
  });
  return tf.tensor2d(ids, [batch, TIME], 'int32');
}

/** What the CPU engine gives, computed once. */
function onceOnCpu<T>(body: (model: LanguageModel) => T): (config: keyof typeof CONFIGS) => Promise<T> {
  const found = new Map<string, T>();
  return async (config) => {
    const result = found.get(config) ?? (await onBackend((await startCpu()).backend, config, body));
    found.set(config, result);
    return result;
  };
}

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

function loss(model: LanguageModel, step: number): tf.Scalar {
  const batch = tokens(step, 1);
  const input = tf.slice(batch, [0, 0], [1, TIME - 1]);
  const targets = tf.slice(batch, [0, 1], [1, TIME - 1]);
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
  const losses = Array.from({ length: STEPS }, (_, step) => {
    const { value, gradients } = valueAndGradients(model, () => loss(model, step));
    optimizer.apply(gradients, step + 1, 3e-3);
    const read = value.dataSync()[0] ?? NaN;
    tf.dispose([value, ...gradients.values()]);
    return read;
  });
  optimizer.dispose();
  return losses;
}

const forward = (model: LanguageModel): tf.TypedArray =>
  tf.tidy(() => model.forward(tokens()).dataSync().slice());
const logitsOnCpu = onceOnCpu(forward);
const lossesOnCpu = onceOnCpu(trainingLosses);

for (const storage of ['float32', 'bfloat16', 'float16'] as const) {
  const test = await gpuSuite(`cuda models, ${storage}`, { storage });
  const tolerance = TOLERANCE[storage];

  for (const config of Object.keys(CONFIGS) as (keyof typeof CONFIGS)[]) {
    test(`${config}: logits, prefill and decoding`, async () => {
      const expected = await logitsOnCpu(config);
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
      const shape = [BATCH * TIME, SHAPE.vocabSize];
      test.errors.holdRows(`${config}, logits`, tolerance.logits, found.forward, expected, shape);
      for (const [index, position] of [TIME - 2, TIME - 1].entries()) {
        const rows = Array.from({ length: BATCH }, (_, b) => {
          const start = (b * TIME + position) * SHAPE.vocabSize;
          return Array.from(expected.subarray(start, start + SHAPE.vocabSize));
        });
        const name = `${config}, ${index === 0 ? 'prefill' : 'decoding'}`;
        const route = found.routes[index] ?? new Float32Array();
        test.errors.holdRows(name, tolerance.logits, route, rows.flat(), [BATCH, SHAPE.vocabSize]);
      }
    });

    test(`${config}: the losses of training track those of the CPU engine`, async () => {
      const expected = await lossesOnCpu(config);
      const found = await onBackend(CUDA, config, trainingLosses);
      for (const [step, value] of expected.entries()) {
        test.errors.holdRows(
          `${config}, loss of step ${step}`,
          tolerance.losses,
          [found[step] ?? NaN],
          [value],
          [],
        );
      }
    });
  }

  test.run();
}
