/** Texts of single tokens, as they are within a text. Asking a tokenizer takes milliseconds: each is asked once. */
import type { Tokenizer } from '../data/tokenizer.js';

export class TokenTexts {
  private static readonly known = new WeakMap<Tokenizer, TokenTexts>();
  private readonly texts = new Map<number, string>();
  /** A token that stands before: some tokenizers treat the first of a text differently. */
  private readonly before: readonly number[];
  private readonly beforeText: string;

  private constructor(private readonly tokenizer: Tokenizer) {
    this.before = [...tokenizer.encode('a')];
    this.beforeText = tokenizer.decode(this.before);
  }

  static of(tokenizer: Tokenizer): TokenTexts {
    const known = this.known.get(tokenizer) ?? new TokenTexts(tokenizer);
    this.known.set(tokenizer, known);
    return known;
  }

  /** Empty for special tokens; U+FFFD for a part of a character. */
  text(token: number): string {
    const known = this.texts.get(token);
    if (known !== undefined) return known;
    const whole = this.tokenizer.decode([...this.before, token]);
    const text = whole.startsWith(this.beforeText)
      ? whole.slice(this.beforeText.length)
      : this.tokenizer.decode([token]);
    this.texts.set(token, text);
    return text;
  }
}
