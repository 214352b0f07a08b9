/** Log-probabilities of tokens, computed from logits in float64. */
export interface TokenLogProbability {
  readonly token: number;
  /** Nats. */
  readonly logProbability: number;
}

export interface PositionLogProbabilities extends TokenLogProbability {
  /** The likeliest tokens, the likeliest first. */
  readonly top: readonly TokenLogProbability[];
}

/** The probability of `token` and of the `count` likeliest tokens after finite logits [V]. */
export function logProbabilities(
  logits: Float32Array,
  token: number,
  count: number,
): PositionLogProbabilities {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - largest);
  const normalizer = largest + Math.log(sum);
  const of = (id: number): TokenLogProbability => ({
    token: id,
    logProbability: (logits[id] as number) - normalizer,
  });
  return { ...of(token), top: likeliest(logits, count).map(of) };
}

/** The largest logits; ties keep the order of the vocabulary. */
function likeliest(logits: Float32Array, count: number): number[] {
  const best: number[] = [];
  if (count === 0) return best;
  for (const [id, value] of logits.entries()) {
    const last = best.at(-1);
    if (best.length === count && last !== undefined && value <= (logits[last] as number)) continue;
    let at = best.length;
    while (at > 0 && value > (logits[best[at - 1] as number] as number)) at -= 1;
    best.splice(at, 0, id);
    best.length = Math.min(best.length, count);
  }
  return best;
}
