import type { Tokenizer } from '../../data/tokenizer.js';

const REPLACEMENT = '\uFFFD';
/** A character has at most four bytes: more tokens than this do not become one. */
const LONGEST_CHARACTER = 4;

/**
 * Text of tokens that come one by one. Characters of several tokens appear when they are whole. Tokens are decoded after
 * the ones before, since some tokenizers treat the first token of a text differently.
 */
export class TextStream {
  private context: number[] = [];
  private pending: number[] = [];

  constructor(private readonly tokenizer: Tokenizer) {}

  /** The text that this token completes; empty while a character is incomplete. */
  push(token: number): string {
    this.pending.push(token);
    const text = this.text();
    if (text.endsWith(REPLACEMENT) && this.pending.length < LONGEST_CHARACTER) return '';
    this.context = this.pending;
    this.pending = [];
    return text;
  }

  /** What is left at the end, however incomplete. */
  end(): string {
    const text = this.pending.length > 0 ? this.text() : '';
    this.pending = [];
    return text;
  }

  private text(): string {
    const before = this.tokenizer.decode(this.context);
    return this.tokenizer.decode([...this.context, ...this.pending]).slice(before.length);
  }
}
