/** The tokens of a corpus, read by position: in memory, or in a temporary file when there are very many. */
import { readSync, writeSync } from 'node:fs';
import { UsageError } from '../errors.js';
import { openTemporary, type TemporaryFile } from '../files/temporary.js';
import type { TextPiece } from './corpus.js';
import type { Tokenizer } from './tokenizer.js';

/** Tokens beyond this many are kept on disk. */
export const TOKENS_IN_MEMORY = 2 ** 27;

export interface TokenStore {
  readonly length: number;
  /** Copies `target.length` tokens from position `start` on. */
  read(start: number, target: Int32Array): void;
  /** Frees the temporary file, if there is one. */
  dispose(): void;
}

export interface TokenizeOptions {
  /** Called with the number of characters done. */
  onProgress?: (characters: number) => void;
  /** Stop when there are this many tokens (some more may come with the last). */
  maxTokens?: number;
  /** For tests: tokens kept in memory before they go to disk. */
  tokensInMemory?: number;
}

/** Encodes documents, each as a whole and followed by the end-of-text token (where the tokenizer has one). */
export function tokenize(
  pieces: Iterable<TextPiece>,
  tokenizer: Tokenizer,
  { onProgress, maxTokens = Infinity, tokensInMemory = TOKENS_IN_MEMORY }: TokenizeOptions = {},
): TokenStore {
  const builder = new StoreBuilder(tokenizer.vocabSize <= 65536, tokensInMemory);
  const reader = new DocumentReader(pieces, onProgress);
  for (const ids of tokenizer.encodeDocuments(reader.documents())) {
    if (ids !== null) builder.add(ids);
    else if (reader.wasComplete() && tokenizer.endOfText !== null) {
      builder.add(Int32Array.of(tokenizer.endOfText));
    }
    if (builder.total >= maxTokens) break;
  }
  return builder.finish();
}

/** Divides pieces into documents, which are read in their order. */
class DocumentReader {
  private readonly iterator: Iterator<TextPiece>;
  private next: TextPiece | null;
  private characters = 0;
  /** Whether documents that were read have an end, which a text that was cut off lacks. */
  private readonly complete: boolean[] = [];

  constructor(
    pieces: Iterable<TextPiece>,
    private readonly onProgress: ((characters: number) => void) | undefined,
  ) {
    this.iterator = pieces[Symbol.iterator]();
    this.next = this.read();
  }

  *documents(): Generator<Iterable<string>> {
    while (this.next !== null) yield this.document();
  }

  /** Of the next document, in their order, whether it had an end. */
  wasComplete(): boolean {
    return this.complete.shift() ?? false;
  }

  private *document(): Generator<string> {
    let isComplete = false;
    while (this.next !== null && !isComplete) {
      const { text, endsDocument } = this.next;
      isComplete = endsDocument;
      yield text;
      this.characters += text.length;
      this.onProgress?.(this.characters);
      this.next = this.read();
    }
    this.complete.push(isComplete);
  }

  private read(): TextPiece | null {
    const { value, done } = this.iterator.next() as IteratorResult<TextPiece, undefined>;
    return done === true ? null : value;
  }
}

type Ids = Uint16Array | Int32Array;

class StoreBuilder {
  private blocks: Ids[] = [];
  private length = 0;
  /** A temporary file, which goes away with the process. */
  private file: TemporaryFile | null = null;
  private inFile = 0;
  /** Tokens so far. */
  total = 0;

  constructor(
    private readonly narrow: boolean,
    private readonly tokensInMemory: number,
  ) {}

  add(ids: Int32Array): void {
    this.blocks.push(this.narrow ? Uint16Array.from(ids) : ids);
    this.length += ids.length;
    this.total += ids.length;
    if (this.length >= this.tokensInMemory) this.store();
  }

  finish(): TokenStore {
    if (this.file === null) return new MemoryStore(this.merged());
    this.store();
    return new IdFile(this.file, { width: this.width, length: this.inFile, from: 0 });
  }

  private get width(): number {
    return this.narrow ? 2 : 4;
  }

  private store(): void {
    this.file ??= openTemporary('yoco-tokens');
    const ids = this.merged();
    const bytes = new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength);
    for (let done = 0; done < bytes.length;) {
      const at = this.inFile * this.width + done;
      done += writeSync(this.file.descriptor, bytes, done, bytes.length - done, at);
    }
    this.inFile += ids.length;
    this.blocks = [];
    this.length = 0;
  }

  private merged(): Ids {
    const all = this.narrow ? new Uint16Array(this.length) : new Int32Array(this.length);
    let at = 0;
    for (const block of this.blocks) {
      all.set(block, at);
      at += block.length;
    }
    return all;
  }
}

export class MemoryStore implements TokenStore {
  constructor(private readonly ids: Ids) {}

  get length(): number {
    return this.ids.length;
  }

  read(start: number, target: Int32Array): void {
    target.set(this.ids.subarray(start, start + target.length));
  }

  dispose(): void {
    // Nothing but memory to give back.
  }
}

/** A file that is open. */
interface OpenFile {
  readonly descriptor: number;
  close(): void;
}

/** How ids stand in a file: `length` of them, of `width` bytes each, from the byte `from` on. */
interface IdLayout {
  readonly width: number;
  readonly length: number;
  readonly from: number;
}

/** Tokens in a file, read by position: more than memory holds. */
export class IdFile implements TokenStore {
  constructor(
    private readonly file: OpenFile,
    private readonly layout: IdLayout,
  ) {}

  get length(): number {
    return this.layout.length;
  }

  read(start: number, target: Int32Array): void {
    const { width, from } = this.layout;
    const ids = width === 2 ? new Uint16Array(target.length) : target;
    const bytes = new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength);
    if (!readFully(this.file.descriptor, bytes, from + start * width)) {
      throw new Error(`tokens ${start} to ${start + target.length} are outside the store`);
    }
    if (ids !== target) target.set(ids);
  }

  dispose(): void {
    this.file.close();
  }
}

/** Fills `target` from `position` on; whether the file had enough. */
export function readFully(descriptor: number, target: Uint8Array, position: number): boolean {
  for (let done = 0; done < target.length;) {
    const size = Math.min(target.length - done, 2 ** 30);
    const count = readSync(descriptor, target, done, size, position + done);
    if (count === 0) return false;
    done += count;
  }
  return true;
}

/** @throws UsageError when a corpus is shorter than one window */
export function requireTokens(tokens: TokenStore, needed: number, what: string): void {
  if (tokens.length >= needed) return;
  throw new UsageError(
    `${what} has ${tokens.length} tokens but at least ${needed} are needed: use more text or shorter sequences`,
  );
}
