/** Tokens of corpora that take long to encode, kept as files between runs. */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../files/cache.js';
import { makeDirectory, temporaryBeside, writeWhole } from '../files/write.js';
import { toolkitVersion } from '../package-root.js';
import type { Corpus, Split } from './corpus.js';
import { MemoryStore, tokenize, type TokenStore } from './token-store.js';
import { tokenizerIdentity, type Tokenizer } from './tokenizer.js';

/** Smaller corpora are encoded in seconds. */
const WORTH_KEEPING_BYTES = 2 ** 24;
/** Tokens written at a time. */
const BLOCK = 2 ** 20;

/**
 * The tokens of a split, as `tokenize` gives them: from the cache where an earlier run has left them. A cache that cannot be
 * written costs time only.
 */
export function cachedTokens(
  corpus: Corpus,
  split: Split,
  tokenizer: Tokenizer,
  { folder = cacheFolder('tokens'), leastBytes = WORTH_KEEPING_BYTES } = {},
): TokenStore {
  const encode = (): TokenStore => tokenize(corpus.pieces(split), tokenizer);
  if (corpus.bytes < leastBytes) return encode();
  const file = join(folder, `${key(corpus, split, tokenizer)}.bin`);
  const known = read(file, tokenizer);
  if (known !== null) return known;
  const store = encode();
  try {
    makeDirectory(folder);
    write(file, store, tokenizer);
  } catch {
    // The tokens are there all the same.
  }
  return store;
}

/** Everything that determines the tokens. */
function key(corpus: Corpus, split: Split, tokenizer: Tokenizer): string {
  const { vocabSize, endOfText } = tokenizer;
  const rules = tokenizerIdentity(tokenizer);
  const identity = [toolkitVersion(), corpus.sha256, split, rules, vocabSize, endOfText];
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex');
}

const isNarrow = ({ vocabSize }: Tokenizer): boolean => vocabSize <= 65536;

/** The file begins with how many tokens follow, so that one that was cut off is noticed. */
const HEADER_BYTES = 8;

function read(file: string, tokenizer: Tokenizer): TokenStore | null {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'r');
  } catch {
    return null;
  }
  try {
    const header = new Float64Array(1);
    if (!fill(descriptor, new Uint8Array(header.buffer), 0)) return null;
    const [length = 0] = header;
    const width = isNarrow(tokenizer) ? 2 : 4;
    if (fstatSync(descriptor).size !== HEADER_BYTES + length * width) return null;
    const ids = width === 2 ? new Uint16Array(length) : new Int32Array(length);
    return fill(descriptor, new Uint8Array(ids.buffer), HEADER_BYTES) ? new MemoryStore(ids) : null;
  } finally {
    closeSync(descriptor);
  }
}

/** Whether the file had enough from `position` on. */
function fill(descriptor: number, target: Uint8Array, position: number): boolean {
  for (let done = 0; done < target.length;) {
    const count = readSync(
      descriptor,
      target,
      done,
      Math.min(target.length - done, 2 ** 30),
      position + done,
    );
    if (count === 0) return false;
    done += count;
  }
  return true;
}

/** Beside the file, then under its name: it is there wholly or not at all. */
function write(file: string, store: TokenStore, tokenizer: Tokenizer): void {
  const temporary = temporaryBeside(file);
  const descriptor = openSync(temporary, 'wx');
  try {
    writeWhole(descriptor, new Uint8Array(Float64Array.of(store.length).buffer));
    for (let start = 0; start < store.length; start += BLOCK) {
      const block = new Int32Array(Math.min(BLOCK, store.length - start));
      store.read(start, block);
      const ids = isNarrow(tokenizer) ? Uint16Array.from(block) : block;
      writeWhole(descriptor, new Uint8Array(ids.buffer));
    }
    renameSync(temporary, file);
  } finally {
    closeSync(descriptor);
    rmSync(temporary, { force: true });
  }
}
