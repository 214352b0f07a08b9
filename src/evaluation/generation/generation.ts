import { likeliestTokens } from '../../model/continuation.js';
import type { ModelCache } from '../../model/state/state-cache.js';
import type { LanguageModel } from '../../model/language-model.js';
import * as tf from '../../tf.js';
import { requireFiniteLogits } from '../scoring/finite.js';
import { greedySampler, type Sampler } from './sampling.js';

export interface GenerationOptions {
  readonly sampler: Sampler;
  /** Tokens at most. */
  readonly limit: number;
  /** Tokens that end the text and are not part of it. */
  readonly stopTokens: readonly number[];
  /** As of {@link likeliestTokens}, for tokens that are always the likeliest. */
  readonly lastUse?: boolean;
}

/**
 * Tokens that continue what the cache holds, one by one.
 * @param logits [1, V] after the cache's last token; disposed here
 * @throws RunError when logits are not finite: no token follows from them
 */
export async function* generateTokens(
  model: LanguageModel,
  cache: ModelCache,
  logits: tf.Tensor2D,
  { sampler, limit, stopTokens, lastUse }: GenerationOptions,
): AsyncGenerator<number> {
  if (sampler === greedySampler && limit > 0) {
    const options = { limit, lastUse, check: requireFiniteLogits };
    for await (const [token = 0] of likeliestTokens(model, cache, logits, options)) {
      if (stopTokens.includes(token)) return;
      yield token;
    }
    return;
  }
  let next = logits;
  try {
    for (let count = 0; count < limit; count++) {
      await requireFiniteLogits(next);
      const token = await sampler(next);
      if (stopTokens.includes(token)) return;
      yield token;
      if (count + 1 === limit) return;
      next.dispose();
      next = decodeToken(model, cache, token);
    }
  } finally {
    next.dispose();
  }
}

function decodeToken(model: LanguageModel, cache: ModelCache, token: number): tf.Tensor2D {
  const ids = tf.tensor1d([token], 'int32');
  const logits = model.decode(ids, cache);
  ids.dispose();
  return logits;
}
