/** A process with Hugging Face's tokenizers library: requests are put to it and answered in order, and the caller waits. */
import { fileURLToPath } from 'node:url';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { BridgeData } from './bridge.js';
import type { LibraryReply, LibraryRequest } from './protocol.js';

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

export class LibraryProcess {
  private readonly signal = new Int32Array(new SharedArrayBuffer(4));
  private readonly port;
  private end: (LibraryReply & { readonly kind: 'ended' }) | null = null;
  private asked = 0;
  private answered = 0;
  /** Answers that came while another one was waited for. */
  private readonly answers = new Map<number, LibraryReply>();
  /** Requests whose answers nobody waits for any more. */
  private readonly dropped = new Set<number>();

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
    // What arrives while nothing is asked is the news that the process ended.
    if (this.answered === this.asked && Atomics.load(this.signal, 0) > 0) this.receive(0);
    return this.end !== null;
  }

  /** Puts a request. @returns its number */
  ask(request: LibraryRequest): number {
    this.port.postMessage(request);
    return this.asked++;
  }

  /** @param limit milliseconds to wait for the answer to a request, once those before it have theirs */
  answer(number: number, limit: number): LibraryReply {
    while (this.answered <= number && this.end === null) this.receive(limit);
    const answer = this.answers.get(number);
    this.answers.delete(number);
    return answer ?? this.end ?? { kind: 'ended', reason: 'it sent no answer' };
  }

  /** Nobody waits for the answer. */
  drop(number: number): void {
    if (!this.answers.delete(number) && number >= this.answered) this.dropped.add(number);
  }

  private receive(limit: number): void {
    const reply = this.next(limit);
    if (reply.kind === 'ended') {
      this.end = reply;
      return;
    }
    const number = this.answered++;
    if (!this.dropped.delete(number)) this.answers.set(number, reply);
  }

  private next(limit: number): LibraryReply {
    const deadline = performance.now() + limit;
    // Waking up does not mean an answer: the bridge may notify of the one before only now.
    while (Atomics.load(this.signal, 0) === 0) {
      const left = deadline - performance.now();
      if (left <= 0) {
        this.port.postMessage('kill');
        return { kind: 'ended', reason: `it took more than ${Math.round(limit / 1000)} seconds` };
      }
      Atomics.wait(this.signal, 0, 0, left);
    }
    Atomics.sub(this.signal, 0, 1);
    const received: { message: LibraryReply } | undefined = receiveMessageOnPort(this.port);
    return received?.message ?? { kind: 'ended', reason: 'it sent no answer' };
  }
}
