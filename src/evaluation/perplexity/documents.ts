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
  /** Its tokens, perhaps with an end-of-text token behind them. */
  readonly tokens: TokenStore;
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
  const sources = await unpackSources(findSources(specs));
  return sources.flatMap((source) => {
    const corpus = new Corpus(source.name, [source]);
    if (source.kind === 'text')
      return [encode(source.name, corpus.sha256, tokenizer, corpus.pieces(), maxTokens)];
    return [...corpus.pieces()].map((piece, index) => {
      const sha256 = createHash('sha256').update(piece.text).digest('hex');
      return encode(`${source.name}#${index + 1}`, sha256, tokenizer, [piece], maxTokens);
    });
  });
}

function encode(
  name: string,
  sha256: string,
  tokenizer: Tokenizer,
  pieces: Iterable<TextPiece>,
  maxTokens: number,
): TokenDocument {
  const tokens = tokenize(pieces, tokenizer, { maxTokens });
  const isCut = tokens.length > maxTokens;
  return { name, sha256, tokens, length: tokens.length - (tokenizer.endOfText === null || isCut ? 0 : 1) };
}
