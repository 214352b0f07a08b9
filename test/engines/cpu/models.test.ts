import { suite } from 'uvu';
import { createModel, presetConfig, valueAndGradients, type ModelConfig } from '../../../src/model/index.js';
import * as tf from '../../../src/tf.js';
import { assertParity } from '../parity.js';

const test = suite('cpu engine: whole models');

/** Half the widths of the preset, since the reference is slow. */
const NARROW = { dim: 32, hiddenDim: 96 };

const CONFIGS: Record<string, ModelConfig> = {
  'yoco, gated retention': presetConfig('pico', 'yoco', NARROW),
  'yoco, sliding window': presetConfig('pico', 'yoco', {
    ...NARROW,
    selfDecoder: 'sliding-window',
    slidingWindow: 24,
  }),
  transformer: presetConfig('pico', 'transformer', NARROW),
  'every other part': presetConfig('pico', 'custom', {
    ...NARROW,
    layout: 'retention memory embeddings cross attention cross',
  }),
};

function ids(rows: number, length: number): tf.Tensor2D {
  const values = Int32Array.from({ length: rows * length }, (_, i) => (i * 7919 + 13) % 256);
  return tf.tensor2d(values, [rows, length], 'int32');
}

for (const [name, config] of Object.entries(CONFIGS)) {
  test(`${name}: losses and all gradients`, () =>
    assertParity(
      () => {
        const model = createModel(config, { seed: 3 });
        const [tokens, targets] = [ids(2, 70), ids(2, 70)];
        const { value, gradients } = valueAndGradients(model, () => tf.mean(model.loss(tokens, targets)));
        model.dispose();
        return [value, ...gradients.values()];
      },
      { tolerance: 2e-3 },
    ));

  test(`${name}: prefill in chunks, then decoding`, () =>
    assertParity(
      () => {
        const model = createModel(config, { seed: 3 });
        const cache = model.createCache({ batch: 2 });
        const logits = [model.prefill(ids(2, 75), cache, { chunkSize: 32 })];
        for (let step = 0; step < 3; step++)
          logits.push(model.decode(tf.tensor1d([step, 65], 'int32'), cache));
        cache.dispose();
        model.dispose();
        return logits;
      },
      { tolerance: 1e-4 },
    ));
}

test.run();
