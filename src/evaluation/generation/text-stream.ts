import type { Tokenizer } from '../../data/tokenizer.js';

const REPLACEMENT = '\uFFFD';
/** A character has at most four bytes: more tokens than this do not become one. */
const LONGEST_CHARACTER = 4;
/** Tokens decoded before the new ones; more where these have no text. */
const CONTEXT = 16;
/** Tokens that the context grows to before it is cut: each cut takes a call more. */
const LONGEST_CONTEXT = 64;

/**
 * Text of tokens that come one by one: all of it together is what decoding the whole text adds to decoding what came
 * before. Characters of several tokens appear when they are whole. Tokens are decoded after those before them, since some
 * tokenizers treat the first token of a text differently. A tokenizer takes a millisecond a call: a token takes one call, or none
 * where its text is not needed yet.
 */
export class TextStream {
  private context: readonly number[];
  /** Of the context; null where it has not been decoded yet. */
  private contextText: string | null = null;
  private pending: number[] = [];

  /** @param before tokens of the text that is continued */
  constructor(
    private readonly tokenizer: Tokenizer,
    before: Iterable<number> = [],
  ) {
    this.context = [...before];
  }

  /** The text that this token completes; empty while a character is incomplete. */
  push(token: number): string {
    this.pending.push(token);
    const { before, whole } = this.decoded();
    if (!whole.startsWith(before)) return '';
    if (!whole.endsWith(REPLACEMENT)) return this.give(this.pending.length, before, whole);
    // The last tokens may begin a character. The others may not, unless what follows has completed one.
    const certain = this.pending.length - (LONGEST_CHARACTER - 1);
    if (certain <= 0) return '';
    const part = this.tokenizer.decode([...this.context, ...this.pending.slice(0, certain)]);
    return whole.startsWith(part) ? this.give(certain, before, part) : '';
  }

  /** Takes a token whose text is not needed before the next `push` or `end`. */
  hold(token: number): void {
    this.pending.push(token);
  }

  /** What is left at the end, however incomplete. */
  end(): string {
    if (this.pending.length === 0) return '';
    const { before, whole } = this.decoded();
    this.pending = [];
    return whole.slice(before.length);
  }

  /** Moves pending tokens, whose text ends `text`, to the context. */
  private give(count: number, before: string, text: string): string {
    this.context = [...this.context, ...this.pending.splice(0, count)];
    this.contextText = this.context.length > LONGEST_CONTEXT ? null : text;
    return text.slice(before.length);
  }

  private decoded(): { before: string; whole: string } {
    if (this.contextText === null) {
      this.context = this.lastVisible(this.context);
      this.contextText = this.tokenizer.decode(this.context);
    }
    return {
      before: this.contextText,
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
