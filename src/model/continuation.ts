/** Greedy continuation, where the engine allows it with the next step queued before a token is read. */
import { stepRecorder } from '../ops/index.js';
import * as tf from '../tf.js';
import type { LanguageModel } from './language-model.js';
import type { ModelCache } from './state/state-cache.js';

export interface ContinuationOptions {
  /** Tokens of a sequence, at least one. */
  readonly limit: number;
  /**
   * The cache is not used afterwards. On an engine that queues its work, the step of a token is then queued before the token is
   * read, so that the device does not wait for the host; whoever stops early leaves a step computed for nothing.
   */
  readonly lastUse?: boolean;
  /** Called with logits before the step that follows them; what it returns is waited for before their tokens are given. */
  readonly check?: (logits: tf.Tensor2D) => Promise<void>;
}

/**
 * The likeliest token of each sequence, step by step.
 * @param logits [B, V] after the last tokens in the cache; disposed of here
 * @returns tokens [B] of each step
 */
export async function* likeliestTokens(
  model: LanguageModel,
  cache: ModelCache,
  logits: tf.Tensor2D,
  { limit, lastUse = false, check }: ContinuationOptions,
): AsyncGenerator<Int32Array> {
  const isAhead = lastUse && stepRecorder()?.isQueued === true;
  let [next, best, following]: [tf.Tensor2D | null, tf.Tensor1D | null, tf.Tensor2D | null] = [logits, null, null]; // prettier-ignore
  try {
    for (let count = 1; next !== null; count++) {
      const tokens = (best = tf.argMax<tf.Tensor1D>(next, 1));
      const step = (): tf.Tensor2D | null => (count < limit ? model.decode(tokens, cache) : null);
      const read = Promise.all([tokens.data<'int32'>(), check?.(next)]);
      // Should the step fail, that is the error to be told.
      read.catch(() => undefined);
      if (isAhead) following = step();
      yield Int32Array.from((await read)[0]);
      if (!isAhead) following = step();
      tf.dispose([next, best]);
      [next, best, following] = [following, null, null];
    }
  } finally {
    tf.dispose([next, best, following].filter((tensor) => tensor !== null));
  }
}

/** The same after tokens [B] that are not in the cache yet. */
export function likeliestAfter(
  model: LanguageModel,
  cache: ModelCache,
  tokens: Int32Array,
  options: ContinuationOptions,
): AsyncGenerator<Int32Array> {
  const logits = tf.tidy(() => model.decode(tf.tensor1d(tokens, 'int32'), cache));
  return likeliestTokens(model, cache, logits, options);
}
