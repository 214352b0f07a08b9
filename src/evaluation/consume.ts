/** Feeding token ids to a model in pieces of bounded size. */
import type { ModelCache } from '../model/cache.js';
import type { LanguageModel } from '../model/language-model.js';
import * as tf from '../tf.js';

/** Tokens per call where no logits are kept. */
const CONTEXT_CHUNK = 8192;
/** Floats of logits kept at once where they are. */
const LOGITS_AT_ONCE = 1 << 24;

/** Tokens whose logits may be asked for in one call. */
export function scoringChunk(vocabSize: number): number {
  return Math.max(16, Math.min(CONTEXT_CHUNK, Math.floor(LOGITS_AT_ONCE / vocabSize)));
}

/** Int32 [1, T]. */
export const idsTensor = (ids: Int32Array): tf.Tensor2D => tf.tensor2d(ids, [1, ids.length], 'int32');

/** Appends tokens to the cache without computing logits. */
export function consume(model: LanguageModel, cache: ModelCache, ids: Int32Array): void {
  for (let at = 0; at < ids.length; at += CONTEXT_CHUNK) {
    const tokens = idsTensor(ids.subarray(at, at + CONTEXT_CHUNK));
    model.extend(tokens, cache, { logits: 'none' });
    tokens.dispose();
  }
}

/** Appends tokens to the cache; the logits [1, V] of the last. */
export function consumeForLast(model: LanguageModel, cache: ModelCache, ids: Int32Array): tf.Tensor2D {
  const cut = Math.floor((ids.length - 1) / CONTEXT_CHUNK) * CONTEXT_CHUNK;
  consume(model, cache, ids.subarray(0, cut));
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
