/** The model's work as functions to time. */
import {
  costs,
  createModel,
  presetConfig,
  type Architecture,
  type LanguageModel,
  type ModelConfig,
} from '../src/model/index.js';
import { CpuBackend } from '../src/engines/cpu/backend.js';
import { LayerCache } from '../src/model/cache.js';
import { valueAndGradients, type ModelCache } from '../src/model/index.js';
import { KeyValuePages } from '../src/ops/index.js';
import { Optimizer } from '../src/training/optimizer.js';
import * as tf from '../src/tf.js';

export interface Variant {
  readonly name: string;
  readonly config: ModelConfig;
}

/** `tiny`, of either architecture. */
export function tiny(architecture: Architecture, slidingWindow = false): Variant {
  const overrides = slidingWindow ? ({ selfDecoder: 'sliding-window' } as const) : {};
  const decoder = slidingWindow ? 'sliding window' : 'gated retention';
  const name = architecture === 'yoco' ? `yoco, ${decoder}` : 'transformer';
  return { name, config: presetConfig('tiny', architecture, overrides) };
}

export function ids(count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => (i * 7919) % 256);
}

/** Operations of a prefill with early exit. */
export function prefillOperations(config: ModelConfig, tokens: number): number {
  return costs(config).prefillFlops(tokens, { earlyExit: true });
}

export function prefillOnce(model: LanguageModel, tokens: number, chunkSize?: number): void {
  const cache = model.createCache({ maxTokens: tokens });
  const prompt = tf.tensor2d(ids(tokens), [1, tokens], 'int32');
  const logits = model.prefill(prompt, cache, { chunkSize });
  logits.dataSync();
  tf.dispose([logits, prompt]);
  cache.dispose();
}

/** Bytes of keys and values that decoding reads after `tokens` tokens: those of every layer that attends to them. */
export function decodeBytes(config: ModelConfig, tokens: number): number {
  const shared = config.architecture === 'yoco' ? config.layers - config.selfLayers : 1;
  return shared * costs(config).keyValueBytesPerToken(4) * tokens;
}

function keyValuePages(cache: ModelCache): KeyValuePages {
  const pages = cache instanceof LayerCache ? cache.memories[0] : undefined;
  if (!(pages instanceof KeyValuePages)) throw new Error('The cache has no pages of keys and values');
  return pages;
}

/** The memory of the full pages of keys and values of a cache of the CPU engine. */
export function pagesOf(cache: ModelCache): Float32Array[] {
  const { pages, length, pageSize } = keyValuePages(cache);
  const full = pages.slice(0, Math.floor(length / pageSize));
  const backend = tf.backend();
  if (!(backend instanceof CpuBackend)) throw new Error('This is not the CPU engine');
  return full.flatMap(({ key, value }) => [backend.floats(key), backend.floats(value)]);
}

/** A cache of `tokens` tokens, most of them random keys and values, to which some more can be decoded. */
export function filledCache(model: LanguageModel, tokens: number): ModelCache {
  const cache = model.createCache({ maxTokens: tokens + 64 });
  const pages = keyValuePages(cache);
  const start = tf.tensor2d(ids(64), [1, 64], 'int32');
  model.prefill(start, cache).dispose();
  start.dispose();
  const { kvHeads, headDim } = pages.options;
  while (pages.length < tokens) {
    const count = Math.min(8192, tokens - pages.length);
    const rows = tf.randomNormal<tf.Rank.R4>([1, count, kvHeads, headDim]);
    pages.append(rows, rows);
    rows.dispose();
  }
  if (cache instanceof LayerCache) cache.length = tokens;
  return cache;
}

/** A model and its optimizer; each call of the result is one training step on `rows` sequences of `length` tokens. */
export function trainer(
  config: ModelConfig,
  rows: number,
  length: number,
): { step: () => void; dispose: () => void } {
  const model = createModel(config, { seed: 1 });
  const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, clip: 1 };
  const optimizer = new Optimizer(model.parameters, options);
  const tokens = tf.tensor2d(ids(rows * length), [rows, length], 'int32');
  let steps = 0;
  return {
    step: () => {
      const { value, gradients } = valueAndGradients(model, () => tf.mean(model.loss(tokens, tokens)));
      steps += 1;
      optimizer.apply(gradients, steps, 1e-3);
      value.dataSync();
      tf.dispose([value, ...gradients.values()]);
    },
    dispose: () => {
      tf.dispose([tokens, ...optimizer.state().values()]);
      model.dispose();
    },
  };
}

/** Operations of a training step by the usual count, 6 per parameter and token. */
export function trainingOperations(config: ModelConfig, tokens: number): number {
  return 6 * costs(config).parameters() * tokens;
}
