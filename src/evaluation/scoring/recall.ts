/**
 * Tokens a model could have recalled from its context ("AR-Hit" in Arora et al. 2023, Zoology, arXiv 2312.04927; Table 5 of
 * the paper): the token completes a bigram that the same context has shown before. All others are "First-Occur".
 */

/** The bigrams of one context so far; time and memory grow with the context alone. */
export class BigramMemory {
  private readonly followers = new Map<number, Set<number>>();

  /** Whether `token` has followed `before` already; remembers that it does now. */
  completes(before: number, token: number): boolean {
    const known = this.followers.get(before);
    if (known?.has(token)) return true;
    if (known) known.add(token);
    else this.followers.set(before, new Set([token]));
    return false;
  }
}

/** 1 where token i of a context completes a bigram shown before, else 0; 0 for the first token. */
export function recallHits(tokens: ArrayLike<number>): Uint8Array {
  const memory = new BigramMemory();
  const hits = new Uint8Array(tokens.length);
  for (let i = 1; i < tokens.length; i++) {
    hits[i] = memory.completes(tokens[i - 1] as number, tokens[i] as number) ? 1 : 0;
  }
  return hits;
}

export interface RecallLosses {
  /** Tokens that complete a bigram, and the sum of their losses in nats. */
  readonly hitTokens: number;
  readonly hitNats: number;
  /** The other tokens. */
  readonly firstTokens: number;
  readonly firstNats: number;
}

/**
 * Divides losses by whether their tokens could be recalled.
 * @param losses of tokens 1, 2, … of `tokens`, in nats
 */
export function recallLosses(tokens: ArrayLike<number>, losses: ArrayLike<number>): RecallLosses {
  if (losses.length !== tokens.length - 1) {
    throw new RangeError(`${tokens.length} tokens have ${tokens.length - 1} losses, found ${losses.length}`);
  }
  const hits = recallHits(tokens);
  let [hitTokens, hitNats, firstNats] = [0, 0, 0];
  for (let i = 0; i < losses.length; i++) {
    const loss = losses[i] as number;
    if (hits[i + 1] === 1) {
      hitTokens += 1;
      hitNats += loss;
    } else firstNats += loss;
  }
  return { hitTokens, hitNats, firstTokens: losses.length - hitTokens, firstNats };
}
