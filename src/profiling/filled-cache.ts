/**
 * Contexts that need not be computed: memory and the time of every step depend on how many keys and values there are, not
 * on which.
 */
import { LayerCache, type ModelCache } from '../model/cache.js';
import { headDim } from '../model/config.js';
import type { LanguageModel } from '../model/language-model.js';
import { KeyValuePages } from '../ops/index.js';
import * as tf from '../tf.js';

/** Positions appended at a time, and how many of them differ. */
const [BLOCK, DISTINCT] = [8192, 256];

/** Appends random keys and values until the cache holds `length` tokens; states and windows stay as they are. */
export function fillCache(model: LanguageModel, cache: ModelCache, length: number): void {
  if (!(cache instanceof LayerCache)) throw new TypeError('the model keeps its cache elsewhere');
  if (cache.length >= length) return;
  const width = headDim(model.config);
  const pages = cache.memories.filter((memory) => memory instanceof KeyValuePages);
  tf.tidy(() => {
    const rows = tf.randomNormal<tf.Rank.R4>([cache.batch, DISTINCT, model.config.kvHeads, width]);
    const most = Math.min(BLOCK, length - cache.length);
    const block = tf.tile(rows, [1, Math.ceil(most / DISTINCT), 1, 1]);
    while (cache.length < length) {
      const count = Math.min(BLOCK, length - cache.length);
      const part = tf.slice(block, [0, 0, 0, 0], [-1, count, -1, -1]);
      for (const memory of pages) memory.append(part, part);
      part.dispose();
      cache.length += count;
    }
  });
}

export interface FillOptions {
  /** Tokens the cache is to hold. */
  readonly length: number;
  readonly chunkSize: number;
}

/**
 * Brings the cache to `length` tokens, the last chunk of which is computed, so that states and windows are full and
 * activations have been in memory.
 * @param tokens int32 [B, length] at least: the whole prompt
 * @returns how many of them were computed
 */
export function fillAndPrefill(
  model: LanguageModel,
  cache: ModelCache,
  tokens: tf.Tensor2D,
  { length, chunkSize }: FillOptions,
): number {
  fillCache(model, cache, length - chunkSize);
  const count = length - cache.length;
  const tail = tf.slice(tokens, [0, cache.length], [cache.batch, count]);
  tf.dispose([model.prefill(tail, cache, { chunkSize }), tail]);
  return count;
}
