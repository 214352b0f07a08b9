import type { Tokenizer } from '../../data/tokenizer.js';

const REPLACEMENT = '\uFFFD';
/** A character has at most four bytes: more tokens than this do not become one. */
const LONGEST_CHARACTER = 4;
/** Tokens decoded before the new ones; more where these have no text. */
const CONTEXT = 16;

/**
 * Text of tokens that come one by one: all of it together is what decoding the whole text adds to decoding what came
 * before. Characters of several tokens appear when they are whole. Tokens are decoded after those before them, since some
 * tokenizers treat the first token of a text differently.
 */
export class TextStream {
  private context: readonly number[];
  private pending: number[] = [];

  /** @param before tokens of the text that is continued */
  constructor(
    private readonly tokenizer: Tokenizer,
    before: Iterable<number> = [],
  ) {
    this.context = this.lastVisible([...before]);
  }

  /** The text that this token completes; empty while a character is incomplete. */
  push(token: number): string {
    this.pending.push(token);
    const { before, whole } = this.decoded();
    const mayGrow = whole.endsWith(REPLACEMENT) && this.pending.length < LONGEST_CHARACTER;
    if (mayGrow || !whole.startsWith(before)) return '';
    this.context = this.lastVisible([...this.context, ...this.pending]);
    this.pending = [];
    return whole.slice(before.length);
  }

  /** What is left at the end, however incomplete. */
  end(): string {
    const { before, whole } = this.decoded();
    this.pending = [];
    return whole.slice(before.length);
  }

  private decoded(): { before: string; whole: string } {
    return {
      before: this.tokenizer.decode(this.context),
      whole: this.tokenizer.decode([...this.context, ...this.pending]),
    };
  }

  /** The last tokens, from one that has text on, so that what comes next does not begin a text. */
  private lastVisible(ids: readonly number[]): readonly number[] {
    for (let count = CONTEXT; count < ids.length; count *= 4) {
      const last = ids.slice(-count);
      if (this.tokenizer.decode(last) !== '') return last;
    }
    return ids;
  }
}
