/** Tokens of corpora that take long to encode, kept as files between runs. */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../files/cache.js';
import { makeDirectory, temporaryBeside, writeWhole } from '../files/write.js';
import { toolkitVersion } from '../package-root.js';
import type { Corpus, Split, TextPiece } from './corpus.js';
import {
  IdFile,
  MemoryStore,
  readFully,
  tokenize,
  TOKENS_IN_MEMORY,
  type TokenStore,
} from './token-store.js';
import { tokenizerIdentity, type Tokenizer } from './tokenizer.js';

/** Tokens of a text, and the bytes of UTF-8 they stand for. */
export interface EncodedText {
  readonly tokens: TokenStore;
  readonly bytes: number;
}

/** Smaller corpora are encoded in seconds. */
const WORTH_KEEPING_BYTES = 2 ** 24;
/** Tokens written at a time. */
const BLOCK = 2 ** 20;

/**
 * The tokens of a split, as `tokenize` gives them: from the cache where an earlier run has left them. A cache that cannot be
 * written costs time only.
 * @param options `tokensInMemory`: with more, the file stays open and is read in parts
 */
export function cachedTokens(
  corpus: Corpus,
  split: Split,
  tokenizer: Tokenizer,
  {
    folder = cacheFolder('tokens'),
    leastBytes = WORTH_KEEPING_BYTES,
    tokensInMemory = TOKENS_IN_MEMORY,
  } = {},
): EncodedText {
  const encode = (): EncodedText => {
    let bytes = 0;
    function* counted(): Generator<TextPiece> {
      for (const piece of corpus.pieces(split)) {
        bytes += Buffer.byteLength(piece.text);
        yield piece;
      }
    }
    const tokens = tokenize(counted(), tokenizer, { tokensInMemory });
    return { tokens, bytes };
  };
  if (corpus.bytes < leastBytes) return encode();
  const file = join(folder, `${key(corpus, split, tokenizer)}.bin`);
  const known = read(file, tokenizer, tokensInMemory);
  if (known !== null) return known;
  const text = encode();
  try {
    makeDirectory(folder);
    write(file, text, tokenizer);
  } catch {
    // The tokens are there all the same.
  }
  return text;
}

/** Everything that determines the tokens. */
function key(corpus: Corpus, split: Split, tokenizer: Tokenizer): string {
  const { vocabSize, endOfText } = tokenizer;
  const rules = tokenizerIdentity(tokenizer);
  const identity = ['with bytes', toolkitVersion(), corpus.sha256, split, rules, vocabSize, endOfText];
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex');
}

const isNarrow = ({ vocabSize }: Tokenizer): boolean => vocabSize <= 65536;

/** The file begins with how many tokens follow, so that one that was cut off is noticed, and how many bytes they stand for. */
const HEADER_BYTES = 16;

function read(file: string, tokenizer: Tokenizer, tokensInMemory: number): EncodedText | null {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'r');
  } catch {
    return null;
  }
  let staysOpen = false;
  try {
    const header = new Float64Array(2);
    if (!readFully(descriptor, new Uint8Array(header.buffer), 0)) return null;
    const [length = 0, bytes = 0] = header;
    const width = isNarrow(tokenizer) ? 2 : 4;
    if (fstatSync(descriptor).size !== HEADER_BYTES + length * width) return null;
    if (length > tokensInMemory) {
      staysOpen = true;
      const close = (): void => {
        closeSync(descriptor);
      };
      return { tokens: new IdFile({ descriptor, close }, { width, length, from: HEADER_BYTES }), bytes };
    }
    const ids = width === 2 ? new Uint16Array(length) : new Int32Array(length);
    const complete = readFully(descriptor, new Uint8Array(ids.buffer), HEADER_BYTES);
    return complete ? { tokens: new MemoryStore(ids), bytes } : null;
  } finally {
    if (!staysOpen) closeSync(descriptor);
  }
}

/** Beside the file, then under its name: it is there wholly or not at all. */
function write(file: string, { tokens, bytes }: EncodedText, tokenizer: Tokenizer): void {
  const temporary = temporaryBeside(file);
  const descriptor = openSync(temporary, 'wx');
  try {
    writeWhole(descriptor, new Uint8Array(Float64Array.of(tokens.length, bytes).buffer));
    for (let start = 0; start < tokens.length; start += BLOCK) {
      const block = new Int32Array(Math.min(BLOCK, tokens.length - start));
      tokens.read(start, block);
      const ids = isNarrow(tokenizer) ? Uint16Array.from(block) : block;
      writeWhole(descriptor, new Uint8Array(ids.buffer));
    }
    renameSync(temporary, file);
  } finally {
    closeSync(descriptor);
    rmSync(temporary, { force: true });
  }
}
