/** Feeding token ids to a model in pieces of bounded size. */
import type { ModelCache } from '../../model/state/state-cache.js';
import type { ModelConfig } from '../../model/config.js';
import { defaultChunkSize } from '../../model/costs.js';
import type { LanguageModel } from '../../model/language-model.js';
import * as tf from '../../tf.js';

/** Floats of logits kept at once where they are. */
const LOGITS_AT_ONCE = 1 << 24;

/** Tokens whose logits may be asked for in one call. */
export function scoringChunk(config: ModelConfig): number {
  const fitting = Math.floor(LOGITS_AT_ONCE / config.vocabSize);
  return Math.max(16, Math.min(defaultChunkSize(config), fitting));
}

/** Int32 [1, T]. */
const idsTensor = (ids: Int32Array): tf.Tensor2D => tf.tensor2d(ids, [1, ids.length], 'int32');

/** Appends tokens to the cache without computing logits. @param onTokens called with the tokens done */
export function consume(
  model: LanguageModel,
  cache: ModelCache,
  ids: Int32Array,
  onTokens?: (tokens: number) => void,
): void {
  const chunk = model.chunkTokens;
  for (let at = 0; at < ids.length; at += chunk) {
    const tokens = idsTensor(ids.subarray(at, at + chunk));
    model.extend(tokens, cache, { logits: 'none' });
    tokens.dispose();
    onTokens?.(Math.min(at + chunk, ids.length));
  }
}

/** Appends tokens to the cache; the logits [1, V] of the last. @param onTokens called with the tokens done before the last chunk */
export function consumeForLast(
  model: LanguageModel,
  cache: ModelCache,
  ids: Int32Array,
  onTokens?: (tokens: number) => void,
): tf.Tensor2D {
  const chunk = model.chunkTokens;
  const cut = Math.floor((ids.length - 1) / chunk) * chunk;
  consume(model, cache, ids.subarray(0, cut), onTokens);
  const tokens = idsTensor(ids.subarray(cut));
  const logits = model.extend(tokens, cache, { logits: 'last' });
  tokens.dispose();
  return logits;
}

/** Appends tokens (at most `scoringChunk` of them) to the cache; the logits [T, V] of all. */
export function consumeForAll(model: LanguageModel, cache: ModelCache, ids: Int32Array): tf.Tensor2D {
  const tokens = idsTensor(ids);
  const logits = model.extend(tokens, cache, { logits: 'all' });
  tokens.dispose();
  const rows = tf.reshape<tf.Rank.R2>(logits, [ids.length, -1]);
  logits.dispose();
  return rows;
}
