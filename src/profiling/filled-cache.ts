/**
 * Contexts that need not be computed: memory and the time of every step depend on how many keys and values there are, not
 * on which.
 */
import type { ModelCache } from '../model/state/state-cache.js';
import { fillCache } from '../model/state/fill.js';
import type { LanguageModel } from '../model/language-model.js';
import * as tf from '../tf.js';

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
  fillCache(cache, length - chunkSize);
  const count = length - cache.length;
  const tail = tf.slice(tokens, [0, cache.length], [cache.batch, count]);
  tf.dispose([model.prefill(tail, cache, { chunkSize }), tail]);
  return count;
}
