import type * as cl100k from 'gpt-tokenizer/encoding/cl100k_base';
import { BaseTokenizer, padVocabulary } from './base.js';
import { divideBySizes, wholeParts, type EndedIds } from './parts.js';

/** The official code puts these before tiktoken's ids: `<s>`, `<pad>`, `</s>`, `<unk>`. */
const BEGIN_OF_TEXT = 0;
const PADDING = 1;
const END_OF_TEXT = 2;
const SHIFT = 4;
const RANKS = 100256;
/** cl100k's special tokens and those the official code adds lie between the ranks and this id. */
const LAST_SPECIAL = 100281;

/** BPE runs on about this many characters at once: the package slows down on longer texts. */
const PIECE_CHARACTERS = 1 << 16;
/**
 * Words of cl100k end after a letter that no letter follows, whatever else is around: texts cut there have the ids of
 * the whole.
 */
const WORD_END = /\p{L}(?=[^\p{L}\uD800-\uDFFF])/gu;

/**
 * tiktoken's cl100k_base with the numbering of the official YOCO code (YOCO/yoco/tasks/data/tiktoken_tokenizer.py):
 * four symbols first, so that every tiktoken id is shifted by 4, and 100,286 tokens padded to 100,288.
 */
export class Cl100kTokenizer extends BaseTokenizer {
  readonly name = 'cl100k_base';
  readonly vocabSize = padVocabulary(LAST_SPECIAL + 1 + SHIFT);
  readonly beginOfText = BEGIN_OF_TEXT;
  readonly endOfText = END_OF_TEXT;
  readonly padding = PADDING;

  private constructor(
    private readonly encoding: typeof cl100k,
    private readonly ranks: readonly (string | number[])[],
  ) {
    super();
  }

  static async load(): Promise<Cl100kTokenizer> {
    const { default: ranks } = await import('gpt-tokenizer/bpeRanks/cl100k_base');
    return new Cl100kTokenizer(await import('gpt-tokenizer/encoding/cl100k_base'), ranks);
  }

  encode(text: string): Int32Array {
    const ids = this.encoding.encode(text, { disallowedSpecial: new Set() });
    return Int32Array.from(ids, (id) => id + SHIFT);
  }

  *encodePieces(pieces: Iterable<string>): Generator<Int32Array> {
    for (const text of cutAfterWords(pieces)) yield this.encode(text);
  }

  encodeParts(parts: readonly string[]): Int32Array[] {
    const texts = wholeParts(parts);
    return divideBySizes(
      texts.map((text) => Buffer.byteLength(text)),
      this.withEnds(texts),
    );
  }

  /** From the bytes of the ranks: the package's own decoder drops characters that are incomplete at the end. */
  decode(ids: Iterable<number>): string {
    const bytes: Uint8Array[] = [];
    for (const id of ids) bytes.push(this.bytes(id));
    return Buffer.concat(bytes).toString('utf8');
  }

  private bytes(id: number): Uint8Array {
    const token = id >= SHIFT && id < RANKS + SHIFT ? this.ranks[id - SHIFT] : undefined;
    if (token === undefined) return new Uint8Array(0);
    return typeof token === 'string' ? Buffer.from(token) : Uint8Array.from(token);
  }

  private *withEnds(pieces: Iterable<string>): Generator<EndedIds> {
    let end = 0;
    for (const ids of this.encodePieces(pieces)) {
      yield { ids, ends: ids.map((id) => (end += this.bytes(id).length)) };
    }
  }
}

/** The same text in pieces that end where words end, of about `PIECE_CHARACTERS` where the text has words. */
function* cutAfterWords(pieces: Iterable<string>): Generator<string> {
  let pending = '';
  let size = PIECE_CHARACTERS;
  for (const piece of pieces) {
    pending += piece;
    while (pending.length > size) {
      const cut = lastWordEnd(pending, size);
      // Without a word's end the piece grows; twice the size each time, so that no character is looked at often.
      if (cut === 0) size *= 2;
      else {
        yield pending.slice(0, cut);
        pending = pending.slice(cut);
        size = PIECE_CHARACTERS;
      }
    }
  }
  if (pending !== '') yield pending;
}

/** The last place within `size` characters after which a word ends; 0 for none. */
function lastWordEnd(text: string, size: number): number {
  let cut = 0;
  for (const match of text.slice(0, size + 1).matchAll(WORD_END)) cut = match.index + match[0].length;
  return cut;
}
