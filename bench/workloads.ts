/** The model's work as functions to time. */
import {
  costs,
  presetConfig,
  type Architecture,
  type LanguageModel,
  type ModelCache,
  type ModelConfig,
} from '../src/model/index.js';
import { CpuBackend } from '../src/engines/cpu/backend.js';
import { PagedMemory } from '../src/model/state/pages.js';
import { StateCache } from '../src/model/state/state-cache.js';
import { fillAndPrefill } from '../src/profiling/filled-cache.js';
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
  return costs(config).keyValueReadBytesPerToken(4) * tokens;
}

function keyValuePages(cache: ModelCache): PagedMemory {
  const pages = cache instanceof StateCache ? cache.memories.find(({ grows }) => grows) : undefined;
  if (!(pages instanceof PagedMemory)) throw new Error('The cache has no pages of keys and values');
  return pages;
}

/** The memory of the full pages of keys and values of a cache of the CPU engine. */
export function pagesOf(cache: ModelCache): Float32Array[] {
  const { pages, pageSize } = keyValuePages(cache);
  const full = pages.slice(0, Math.floor(cache.length / pageSize));
  const backend = tf.backend();
  if (!(backend instanceof CpuBackend)) throw new Error('This is not the CPU engine');
  return full.flatMap(({ key, value }) => [backend.floats(key), backend.floats(value)]);
}

/** A cache of `tokens` tokens, most of them random keys and values, to which some more can be decoded. */
export function filledCache(model: LanguageModel, tokens: number): ModelCache {
  const cache = model.createCache({ maxTokens: tokens + 64 });
  const prompt = tf.tensor2d(ids(tokens), [1, tokens], 'int32');
  fillAndPrefill(model, cache, prompt, { length: tokens, chunkSize: 64 });
  prompt.dispose();
  return cache;
}

/** Operations of a training step by the usual count, 6 per parameter and token. */
export function trainingOperations(config: ModelConfig, tokens: number): number {
  return 6 * costs(config).parameters() * tokens;
}
