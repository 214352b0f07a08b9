import { createHash } from 'node:crypto';
import { Corpus, type TextPiece } from '../../data/corpus.js';
import { findSources } from '../../data/sources.js';
import { unpackSources } from '../../data/unpack.js';
import { tokenize, type TokenStore } from '../../data/token-store.js';
import type { Tokenizer } from '../../data/tokenizer.js';

/** A document to be measured as a whole. */
export interface TokenDocument {
  /** File name; documents of .jsonl files are numbered, `notes.jsonl#3`. */
  readonly name: string;
  readonly sha256: string;
  /** Tokens of its text. */
  readonly length: number;
  /** Its tokens, perhaps followed by an end-of-text token. */
  readonly tokens: TokenStore;
  /**
   * Bytes of the text of its first tokens, up to the last whole character; null where the tokenizer does not give the text
   * back (some lower-case it or drop what they do not know), so that bytes and tokens cannot be matched.
   */
  bytesAt(position: number): number | null;
}

/**
 * @param maxTokens tokens of a document that are needed: longer ones are cut somewhere after
 * @param specs names of corpora, files, globs, directories
 * @throws UsageError or RunError for what is missing, empty, binary or malformed
 */
export async function loadDocuments(
  specs: readonly string[],
  tokenizer: Tokenizer,
  maxTokens = Infinity,
): Promise<TokenDocument[]> {
  const sources = await unpackSources(await findSources(specs));
  return sources.flatMap((source) => {
    const corpus = new Corpus(source.name, [source]);
    if (source.kind === 'text')
      return [encode(source.name, corpus.sha256, tokenizer, () => corpus.pieces(), maxTokens)];
    return [...corpus.pieces()].map((piece, index) => {
      const sha256 = createHash('sha256').update(piece.text).digest('hex');
      return encode(`${source.name}#${index + 1}`, sha256, tokenizer, () => [piece], maxTokens);
    });
  });
}

function encode(
  name: string,
  sha256: string,
  tokenizer: Tokenizer,
  pieces: () => Iterable<TextPiece>,
  maxTokens: number,
): TokenDocument {
  // Two more than needed tell a text that was cut from one that ends there, its end-of-text token included.
  const tokens = tokenize(pieces(), tokenizer, { maxTokens: maxTokens + 2 });
  const isCut = tokens.length >= maxTokens + 2;
  const length = tokens.length - (tokenizer.endOfText === null || isCut ? 0 : 1);
  const bytesAt = (position: number): number | null => {
    const ids = new Int32Array(position);
    tokens.read(0, ids);
    // What the last token leaves incomplete is decoded as U+FFFD.
    const text = tokenizer.decode(ids).replace(/\uFFFD+$/, '');
    return beginsWith(pieces(), text) ? Buffer.byteLength(text) : null;
  };
  return { name, sha256, tokens, length, bytesAt };
}

/** Do the pieces, joined, begin with this text? */
function beginsWith(pieces: Iterable<TextPiece>, text: string): boolean {
  let at = 0;
  for (const piece of pieces) {
    const part = piece.text.slice(0, text.length - at);
    if (!text.startsWith(part, at)) return false;
    at += part.length;
    if (at === text.length) return true;
  }
  return at === text.length;
}
