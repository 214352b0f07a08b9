/**
 * Hugging Face's tokenizers library (Rust), called synchronously. It runs in processes of their own, which all tokenizers
 * share; the first is started with the first tokenizer, further ones when there is much to encode, and again after they ended.
 */
import { availableParallelism } from 'node:os';
import { RunError } from '../../../errors.js';
import { LibraryProcess } from './library-process.js';
import type { AddedToken, LibraryReply, LibraryRequest, SpannedIds } from './protocol.js';

/** Milliseconds that a call may take, whatever it is given, and more for each character or token. */
const LIMIT = 120_000;
const LIMIT_PER_ELEMENT = 1;

/** Each takes some 100 MB. */
const MOST_PROCESSES = 16;
export const PROCESSES = Math.min(MOST_PROCESSES, availableParallelism());

const processes: LibraryProcess[] = [];

function processAt(slot: number): LibraryProcess {
  const known = processes[slot];
  if (known !== undefined && !known.ended) return known;
  return (processes[slot] = new LibraryProcess());
}

/** An answer that is on its way. */
export interface Later<T> {
  /** Waits for it. @throws RunError where the library refuses or fails */
  get(): T;
  /** It is not needed. */
  drop(): void;
}

/** Where a tokenizer is loaded; the answer to that request is looked at once. */
interface Loaded {
  readonly process: LibraryProcess;
  request: number | null;
}

/** One tokenizer of the library. */
export class LibraryTokenizer {
  private static count = 0;
  private readonly number = LibraryTokenizer.count++;
  private readonly loaded = new Map<number, Loaded>();

  /**
   * @param file named in errors
   * @param json the content of a `tokenizer.json`
   * @param added tokens that must have these ids
   * @param limit for tests: milliseconds that encoding and decoding may take, beside those for each element
   * @throws RunError where the library refuses the file
   */
  constructor(
    private readonly file: string,
    private readonly json: string,
    private readonly added: readonly AddedToken[],
    private readonly limit = LIMIT,
  ) {
    this.requireLoaded(this.load(0));
  }

  /** Ids of texts, without begin or end token. */
  encode(texts: readonly string[]): readonly Int32Array[] {
    const size = texts.reduce((sum, { length }) => sum + length, 0);
    const reply = this.ask({ kind: 'encode', tokenizer: this.number, texts }, size, 'encoding', 0).get();
    if (reply.kind !== 'encoded') throw new Error(`unexpected answer ${reply.kind}`);
    return reply.ids;
  }

  /**
   * Ids of a text, with the places of those tokens that begin before code point `head` or at or after code point `tail`.
   * @param slot number of the process that encodes it, below `PROCESSES`
   */
  spans(text: string, head: number, tail: number, slot = 0): Later<SpannedIds> {
    const request = { kind: 'spans', tokenizer: this.number, text, head, tail } as const;
    const later = this.ask(request, text.length, 'encoding', slot);
    return {
      get: () => {
        const reply = later.get();
        if (reply.kind !== 'spanned') throw new Error(`unexpected answer ${reply.kind}`);
        return reply;
      },
      drop: () => {
        later.drop();
      },
    };
  }

  /** Text of ids, without special tokens and ids that the vocabulary does not have. */
  decode(ids: Int32Array): string {
    const reply = this.ask({ kind: 'decode', tokenizer: this.number, ids }, ids.length, 'decoding', 0).get();
    if (reply.kind !== 'decoded') throw new Error(`unexpected answer ${reply.kind}`);
    return reply.text;
  }

  /** Loads the tokenizer into a process, if it is not there, without waiting for it. */
  private load(slot: number): Loaded {
    const process = processAt(slot);
    const known = this.loaded.get(slot);
    if (known?.process === process) return known;
    const { json, added } = this;
    const request = process.ask({ kind: 'load', tokenizer: this.number, json, added });
    const loaded = { process, request };
    this.loaded.set(slot, loaded);
    return loaded;
  }

  private requireLoaded(loaded: Loaded): void {
    if (loaded.request === null) return;
    const reply = loaded.process.answer(loaded.request, LIMIT + this.json.length * LIMIT_PER_ELEMENT);
    loaded.request = null;
    if (reply.kind === 'loaded') return;
    const reason = 'reason' in reply ? reply.reason : reply.kind;
    throw new RunError(`${this.file}: not a tokenizer this program can use (${reason})`);
  }

  private ask(request: LibraryRequest, size: number, what: string, slot: number): Later<LibraryReply> {
    const loaded = this.load(slot);
    const { process } = loaded;
    const number = process.ask(request);
    return {
      get: () => {
        this.requireLoaded(loaded);
        const reply = process.answer(number, this.limit + size * LIMIT_PER_ELEMENT);
        if (reply.kind !== 'refused' && reply.kind !== 'ended') return reply;
        throw new RunError(`${this.file}: ${what} fails (${reply.reason})`);
      },
      drop: () => {
        process.drop(number);
      },
    };
  }
}
