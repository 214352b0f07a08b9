/**
 * Hugging Face's tokenizers library (Rust), called synchronously. It runs in a process of its own, which all tokenizers
 * share and which is started with the first of them and again after it ended.
 */
import { fileURLToPath } from 'node:url';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { RunError } from '../../../errors.js';
import type { BridgeData } from './bridge.js';
import type { AddedToken, LibraryReply, LibraryRequest, SpannedIds } from './protocol.js';

/** Milliseconds that a call may take, whatever it is given, and more for each character or token. */
const LIMIT = 120_000;
const LIMIT_PER_ELEMENT = 1;

/** Run from the sources, modules of other threads and processes need the TypeScript loader too. */
const IS_SOURCE = import.meta.url.endsWith('.ts');
const moduleUrl = (name: string): URL => new URL(`./${name}${IS_SOURCE ? '.ts' : '.js'}`, import.meta.url);

/** A script that loads a module of the sources, wherever the program was started. */
function loading(url: URL): string {
  const [loader, module] = [import.meta.resolve('tsx/esm/api'), url.href].map((name) => JSON.stringify(name));
  return `import(${loader}).then(({ register }) => { register(); return import(${module}); })`;
}

function startBridge(workerData: BridgeData): void {
  const url = moduleUrl('bridge');
  const options = { workerData, transferList: [workerData.port], execArgv: [] };
  const worker = IS_SOURCE ? new Worker(loading(url), { ...options, eval: true }) : new Worker(url, options);
  worker.unref();
}

class LibraryProcess {
  private readonly signal = new Int32Array(new SharedArrayBuffer(4));
  private readonly port;
  private hasEnded = false;

  constructor() {
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    startBridge({
      port: port2,
      signal: this.signal,
      child: fileURLToPath(moduleUrl('child')),
      execArgv: IS_SOURCE ? ['--import', import.meta.resolve('tsx')] : [],
    });
  }

  get ended(): boolean {
    // What arrives between calls is the news that the process ended.
    return this.hasEnded || Atomics.load(this.signal, 0) === 1;
  }

  /** @param limit milliseconds to wait for the answer */
  call(request: LibraryRequest, limit: number): LibraryReply {
    this.port.postMessage(request);
    const reply = this.receive(limit);
    if (reply !== null) {
      this.hasEnded = reply.kind === 'ended';
      return reply;
    }
    this.hasEnded = true;
    this.port.postMessage('kill');
    return { kind: 'ended', reason: `it took more than ${Math.round(limit / 1000)} seconds` };
  }

  private receive(limit: number): LibraryReply | null {
    if (Atomics.wait(this.signal, 0, 0, limit) === 'timed-out') return null;
    Atomics.store(this.signal, 0, 0);
    const received: { message: LibraryReply } | undefined = receiveMessageOnPort(this.port);
    return received?.message ?? { kind: 'ended', reason: 'it sent no answer' };
  }
}

let current: LibraryProcess | null = null;
let count = 0;

/** One tokenizer of the library. */
export class LibraryTokenizer {
  private readonly number = count++;
  /** The process in which it is loaded. */
  private process: LibraryProcess | null = null;

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
    this.load();
  }

  /** Ids of texts, without begin or end token. */
  encode(texts: readonly string[]): readonly Int32Array[] {
    const size = texts.reduce((sum, { length }) => sum + length, 0);
    const reply = this.call({ kind: 'encode', tokenizer: this.number, texts }, size, 'encoding');
    if (reply.kind !== 'encoded') throw new Error(`unexpected answer ${reply.kind}`);
    return reply.ids;
  }

  /**
   * Ids of a text, with the places of those tokens that begin before code point `head` or at or after code point `tail`.
   */
  spans(text: string, head: number, tail: number): SpannedIds {
    const request = { kind: 'spans', tokenizer: this.number, text, head, tail } as const;
    const reply = this.call(request, text.length, 'encoding');
    if (reply.kind !== 'spanned') throw new Error(`unexpected answer ${reply.kind}`);
    return reply;
  }

  /** Text of ids, without special tokens and ids that the vocabulary does not have. */
  decode(ids: Int32Array): string {
    const reply = this.call({ kind: 'decode', tokenizer: this.number, ids }, ids.length, 'decoding');
    if (reply.kind !== 'decoded') throw new Error(`unexpected answer ${reply.kind}`);
    return reply.text;
  }

  private load(): LibraryProcess {
    current = current === null || current.ended ? new LibraryProcess() : current;
    const { json, added } = this;
    const request = { kind: 'load', tokenizer: this.number, json, added } as const;
    const reply = current.call(request, LIMIT + json.length * LIMIT_PER_ELEMENT);
    if (reply.kind !== 'loaded') {
      const reason = 'reason' in reply ? reply.reason : reply.kind;
      throw new RunError(`${this.file}: not a tokenizer this program can use (${reason})`);
    }
    this.process = current;
    return current;
  }

  private call(request: LibraryRequest, size: number, what: string): LibraryReply {
    const process = this.process === null || this.process.ended ? this.load() : this.process;
    const reply = process.call(request, this.limit + size * LIMIT_PER_ELEMENT);
    if (reply.kind !== 'refused' && reply.kind !== 'ended') return reply;
    throw new RunError(`${this.file}: ${what} fails (${reply.reason})`);
  }
}
