/** Where documents lie in tokens that are one after the other, each followed by the end-of-text token. */
import { UsageError } from '../errors.js';
import type { TokenStore } from './token-store.js';
import type { Tokenizer } from './tokenizer.js';

export interface DocumentRange {
  /** Its first token. */
  readonly start: number;
  /** After its last, which is the end-of-text token. */
  readonly end: number;
}

/** Tokens looked through at a time. */
const BLOCK = 2 ** 20;

/**
 * Documents with at least one token beside their end. One that spells the end-of-text token out counts as two.
 * @throws UsageError for a tokenizer without an end-of-text token
 */
export function documentRanges(tokens: TokenStore, { name, endOfText }: Tokenizer): DocumentRange[] {
  if (endOfText === null) {
    throw new UsageError(
      `tokenizer '${name}' has no end-of-text token, so that documents cannot be told apart: use --documents joined, without --long-documents`,
    );
  }
  const ranges: DocumentRange[] = [];
  let start = 0;
  const close = (end: number): void => {
    if (end - start > 1) ranges.push({ start, end });
    start = end;
  };
  for (let from = 0; from < tokens.length; from += BLOCK) {
    const block = new Int32Array(Math.min(BLOCK, tokens.length - from));
    tokens.read(from, block);
    for (let at = block.indexOf(endOfText); at >= 0; at = block.indexOf(endOfText, at + 1)) {
      close(from + at + 1);
    }
  }
  close(tokens.length);
  return ranges;
}

/** Documents as often as a stage asks for: those of at least `length` tokens `times`, others once, or never for `only`. */
export type LongDocuments = number | 'only';
