/**
 * What prompts begin with, kept as caches that others fork. Keys and values can be cut back to any length; states cannot, so
 * the place where two prompts part is kept when the second of them is read (as in Marconi, arXiv 2411.19379).
 */
import type { ModelCache } from '../../model/state/state-cache.js';

interface Entry {
  readonly tokens: Int32Array;
  readonly cache: ModelCache;
  readonly bytes: number;
}

/** Tokens below which reading again costs no more than keeping. */
const WORTH_KEEPING = 16;
/** Prompts whose tokens are remembered, to see what they share. */
const REMEMBERED = 256;

export class PrefixStore {
  /** Least recently used first. */
  private readonly entries: Entry[] = [];
  private readonly prompts: Int32Array[] = [];
  private held = 0;

  /** @param limit bytes of caches at most; pages shared with others count in each */
  constructor(private readonly limit: number) {}

  /** A cache of the longest known beginning of a prompt, of at most `usable` tokens; the caller's. Null where none is known. */
  find(prompt: Int32Array, usable: number): ModelCache | null {
    const known = this.entries
      .map((entry) => ({ entry, length: usableLength(entry, prompt, usable) }))
      .filter(({ length }) => length >= WORTH_KEEPING)
      .sort((a, b) => b.length - a.length)[0];
    if (known === undefined) return null;
    const { entry, length } = known;
    this.entries.splice(this.entries.indexOf(entry), 1);
    this.entries.push(entry);
    const cache = entry.cache.fork();
    cache.rewind(length);
    return cache;
  }

  /**
   * Where this prompt parts from one that was read before, if its beginning up to there is worth keeping and not in a cache of
   * `known` tokens; else 0. The prompt is remembered.
   */
  sharedLength(prompt: Int32Array, known: number): number {
    const longest = this.prompts.reduce((most, other) => Math.max(most, commonLength(prompt, other)), 0);
    this.prompts.push(prompt);
    if (this.prompts.length > REMEMBERED) this.prompts.shift();
    return longest > known && longest >= WORTH_KEEPING && longest < prompt.length ? longest : 0;
  }

  /** Keeps a fork of the cache of these tokens, as far as the memory allows. */
  keep(tokens: Int32Array, cache: ModelCache): void {
    const isKnown = this.entries.some(
      (entry) =>
        entry.tokens.length === tokens.length && commonLength(entry.tokens, tokens) === tokens.length,
    );
    const { keyValue, state } = cache.bytes();
    const bytes = keyValue + state;
    if (isKnown || tokens.length < WORTH_KEEPING || bytes > this.limit) return;
    this.entries.push({ tokens, cache: cache.fork(), bytes });
    this.held += bytes;
    while (this.held > this.limit) this.drop();
  }

  dispose(): void {
    while (this.entries.length > 0) this.drop();
  }

  private drop(): void {
    const oldest = this.entries.shift();
    if (oldest === undefined) return;
    this.held -= oldest.bytes;
    oldest.cache.dispose();
  }
}

function commonLength(a: Int32Array, b: Int32Array): number {
  const end = Math.min(a.length, b.length);
  let at = 0;
  while (at < end && a[at] === b[at]) at += 1;
  return at;
}

/** Tokens of a prompt that a fork of an entry can hold. */
function usableLength({ tokens, cache }: Entry, prompt: Int32Array, usable: number): number {
  const length = Math.min(commonLength(tokens, prompt), usable);
  return length === tokens.length || (length > 0 && cache.canRewind(length)) ? length : 0;
}
