/**
 * Which tokens a model could know from its context: those that complete a bigram which the same context has shown before, the
 * "associative recall hits" of Zoology (Arora et al., arXiv 2312.04927, section 3.1). The others occur first.
 */

/** Ids of any vocabulary are below it, and pairs of them are whole numbers that a double holds. */
const RADIX = 2 ** 26;

/**
 * @param ids tokens of one context
 * @returns for each token 1 where it follows its predecessor as it has before in the context, else 0; the first is 0
 */
export function repeatedBigrams(ids: ArrayLike<number>): Uint8Array {
  const flags = new Uint8Array(ids.length);
  const seen = new Set<number>();
  for (let i = 1; i < ids.length; i++) {
    const pair = (ids[i - 1] as number) * RADIX + (ids[i] as number);
    if (seen.has(pair)) flags[i] = 1;
    else seen.add(pair);
  }
  return flags;
}
