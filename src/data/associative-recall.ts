/**
 * Which tokens a model could know from its context: those that complete a bigram which the same context has shown before, the
 * "associative recall hits" (AR-Hit) of Zoology (Arora et al., arXiv 2312.04927, section 3.1). The others occur first.
 */

/** The bigrams of one context so far, for texts that come in parts; time and memory grow with the context alone. */
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

/**
 * @param ids tokens of one context
 * @returns for each token 1 where it follows its predecessor as it has before in the context, else 0; the first is 0
 */
export function repeatedBigrams(ids: ArrayLike<number>): Uint8Array {
  const memory = new BigramMemory();
  const flags = new Uint8Array(ids.length);
  for (let i = 1; i < ids.length; i++) {
    flags[i] = memory.completes(ids[i - 1] as number, ids[i] as number) ? 1 : 0;
  }
  return flags;
}
