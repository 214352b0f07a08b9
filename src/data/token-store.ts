/** The tokens of a corpus, read by position: in memory, or in a temporary file when there are very many. */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../errors.js';
import type { TextPiece } from './corpus.js';
import type { Tokenizer } from './tokenizer.js';

/** Tokens beyond this many are kept on disk. */
const TOKENS_IN_MEMORY = 2 ** 27;
/** BPE runs on pieces of about this many characters, cut at line ends: some encoders slow down on longer texts. */
const PIECE_CHARACTERS = 1 << 16;

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
  /** Stop when there are this many tokens (the last piece may bring some more). */
  maxTokens?: number;
  /** For tests: tokens kept in memory before they go to disk. */
  tokensInMemory?: number;
}

/** Encodes documents, each followed by the end-of-text token (where the tokenizer has one). */
export function tokenize(
  pieces: Iterable<TextPiece>,
  tokenizer: Tokenizer,
  { onProgress, maxTokens = Infinity, tokensInMemory = TOKENS_IN_MEMORY }: TokenizeOptions = {},
): TokenStore {
  const builder = new StoreBuilder(tokenizer.vocabSize <= 65536, tokensInMemory);
  let pending = '';
  let characters = 0;
  const encode = (text: string): void => {
    if (text !== '') builder.add(tokenizer.encode(text));
    characters += text.length;
    onProgress?.(characters);
  };
  for (const { text, endsDocument } of pieces) {
    pending += text;
    while (pending.length > PIECE_CHARACTERS) {
      if (builder.total >= maxTokens) return builder.finish();
      const end = cutAtLine(pending);
      encode(pending.slice(0, end));
      pending = pending.slice(end);
    }
    if (!endsDocument) continue;
    encode(pending);
    pending = '';
    if (tokenizer.endOfText !== null) builder.add(Int32Array.of(tokenizer.endOfText));
  }
  encode(pending);
  return builder.finish();
}

/** After the last line end (or else space) of the first piece, so that words are encoded whole. */
function cutAtLine(text: string): number {
  for (const mark of ['\n', ' ']) {
    const at = text.lastIndexOf(mark, PIECE_CHARACTERS - 1);
    // The space belongs to the next word; the line end to the line before.
    if (at > 0) return mark === '\n' ? at + 1 : at;
  }
  return PIECE_CHARACTERS;
}

type Ids = Uint16Array | Int32Array;

class StoreBuilder {
  private blocks: Ids[] = [];
  private length = 0;
  private file: FileStore | null = null;
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
    if (this.length < this.tokensInMemory) return;
    this.file ??= new FileStore();
    this.file.append(this.merged());
    this.blocks = [];
    this.length = 0;
  }

  finish(): TokenStore {
    if (this.file === null) return new MemoryStore(this.merged());
    this.file.append(this.merged());
    return this.file;
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

class MemoryStore implements TokenStore {
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

/** Tokens as 32-bit integers in a file of the system's temporary directory, which goes away with the process. */
class FileStore implements TokenStore {
  length = 0;
  private readonly directory = mkdtempSync(join(tmpdir(), 'yoco-tokens-'));
  private readonly descriptor = openSync(join(this.directory, 'tokens.bin'), 'w+');
  private readonly onExit = (): void => {
    this.dispose();
  };

  constructor() {
    process.once('exit', this.onExit);
  }

  append(ids: Ids): void {
    const bytes = Buffer.from(Int32Array.from(ids).buffer);
    for (let done = 0; done < bytes.length;) {
      done += writeSync(this.descriptor, bytes, done, bytes.length - done, this.length * 4 + done);
    }
    this.length += ids.length;
  }

  read(start: number, target: Int32Array): void {
    const bytes = Buffer.from(target.buffer, target.byteOffset, target.byteLength);
    for (let done = 0; done < bytes.length;) {
      const count = readSync(this.descriptor, bytes, done, bytes.length - done, start * 4 + done);
      if (count === 0) throw new Error(`tokens ${start} to ${start + target.length} are outside the store`);
      done += count;
    }
  }

  dispose(): void {
    process.off('exit', this.onExit);
    closeSync(this.descriptor);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** @throws UsageError when a corpus is shorter than one window */
export function requireTokens(tokens: TokenStore, needed: number, what: string): void {
  if (tokens.length >= needed) return;
  throw new UsageError(
    `${what} has ${tokens.length} tokens but at least ${needed} are needed: use more text or shorter sequences`,
  );
}
