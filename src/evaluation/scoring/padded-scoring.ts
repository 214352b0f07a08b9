/** Scores requests that share little: many at a time, side by side, padded to the longest. */
import type { LanguageModel } from '../../model/language-model.js';
import * as tf from '../../tf.js';
import type { Score, ScoreRequest } from './likelihood.js';

/** Tokens of a batch, padding included. */
export const TOKENS_AT_ONCE = 4096;

export async function scorePadded(model: LanguageModel, requests: readonly ScoreRequest[]): Promise<Score[]> {
  const scores: Score[] = [];
  for (const batch of batches(requests)) {
    const losses = await batchLosses(
      model,
      batch.map((index) => (requests[index] as ScoreRequest).tokens),
    );
    for (const [row, index] of batch.entries()) {
      const { tokens, start } = requests[index] as ScoreRequest;
      // losses[p] is that of token p + 1.
      const scored = losses[row]?.subarray(start - 1, tokens.length - 1) ?? new Float32Array(0);
      const nats = scored.reduce((sum, loss) => sum + loss, 0);
      scores[index] = { logLikelihood: -nats, tokens: scored.length, greedy: null };
    }
  }
  return scores;
}

/** Indices of requests by length, cut so that no batch has more tokens than allowed. */
function* batches(requests: readonly ScoreRequest[]): Generator<number[]> {
  const length = (index: number): number => (requests[index] as ScoreRequest).tokens.length;
  const order = requests.map((_, index) => index).sort((a, b) => length(b) - length(a) || a - b);
  for (let from = 0; from < order.length;) {
    const longest = length(order[from] as number);
    const count = Math.max(1, Math.floor(TOKENS_AT_ONCE / longest));
    yield order.slice(from, from + count);
    from += count;
  }
}

/** Cross-entropy of every token but the first of each sequence; padding follows the sequences and influences nothing. */
async function batchLosses(model: LanguageModel, sequences: readonly Int32Array[]): Promise<Float32Array[]> {
  const length = Math.max(...sequences.map((tokens) => tokens.length)) - 1;
  const inputs = new Int32Array(sequences.length * length);
  const targets = new Int32Array(sequences.length * length);
  for (const [row, tokens] of sequences.entries()) {
    inputs.set(tokens.subarray(0, -1), row * length);
    targets.set(tokens.subarray(1), row * length);
  }
  const shape: [number, number] = [sequences.length, length];
  const losses = tf.tidy(() =>
    model.loss(tf.tensor2d(inputs, shape, 'int32'), tf.tensor2d(targets, shape, 'int32')),
  );
  const values = await losses.data<'float32'>();
  losses.dispose();
  return sequences.map((_, row) => values.subarray(row * length, (row + 1) * length));
}
