import { crossEntropy } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { finiteCheck, requireFiniteCheck } from './finite.js';

export interface TokenScore {
  /** log p(token), in nats. */
  readonly logProbability: number;
  /** Is it the likeliest token? Null where that was not asked. */
  readonly greedy: boolean | null;
}

/**
 * How likely tokens are under given logits.
 * @param logits [R, V]; stays the caller's
 * @param asked pairs of a row of `logits` and the token asked for
 * @throws RunError when one of these rows holds a value that is NaN or infinite, be it of another token
 */
export async function scoreTokens(
  logits: tf.Tensor2D,
  asked: readonly { readonly row: number; readonly token: number }[],
  greedy: boolean,
): Promise<TokenScore[]> {
  if (asked.length === 0) return [];
  const [losses, check, likeliest] = tf.tidy(() => {
    const identity = asked.length === logits.shape[0] && asked.every(({ row }, index) => row === index);
    const rows = tf.tensor1d(
      asked.map(({ row }) => row),
      'int32',
    );
    const chosen = identity ? logits : tf.gather(logits, rows);
    const targets = tf.tensor1d(
      asked.map(({ token }) => token),
      'int32',
    );
    const results: tf.Tensor[] = [crossEntropy(chosen, targets), finiteCheck(chosen)];
    if (greedy) results.push(tf.argMax(chosen, 1));
    return results;
  });
  if (check) await requireFiniteCheck(check);
  const nats = (await losses?.data()) ?? [];
  const best = (await likeliest?.data()) ?? null;
  tf.dispose([losses, check, likeliest].filter((tensor) => tensor !== undefined));
  return asked.map(({ token }, index) => ({
    logProbability: -(nats[index] ?? NaN),
    greedy: best === null ? null : best[index] === token,
  }));
}
