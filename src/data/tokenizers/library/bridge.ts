/** The thread that passes messages between the main thread, which waits, and the process with the library. */
import { fork } from 'node:child_process';
import { workerData } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import type { LibraryReply, LibraryRequest } from './protocol.js';

export interface BridgeData {
  readonly port: MessagePort;
  /** Element 0 is the number of answers that wait at the port. */
  readonly signal: Int32Array;
  /** The module of the process. */
  readonly child: string;
  readonly execArgv: string[];
}

const { port, signal, child: module, execArgv } = workerData as BridgeData;
const STDERR_CHARACTERS = 4096;

const child = fork(module, {
  execArgv,
  serialization: 'advanced',
  stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
});
let complaints = '';
child.stderr?.on('data', (data: Buffer) => {
  if (complaints.length < STDERR_CHARACTERS) complaints += data.toString();
});

function answer(message: LibraryReply): void {
  port.postMessage(message);
  Atomics.add(signal, 0, 1);
  Atomics.notify(signal, 0);
}

/** The line of a Rust panic that says what happened, or how the process ended. */
function lastWords(code: number | null, end: string | null): string {
  const panic = /panicked at [^\n]*\n([^\n]+)/.exec(complaints)?.[1];
  const line = complaints.split('\n').find((text) => /error/i.test(text));
  return panic ?? line ?? `it ended with ${end ?? `status ${String(code)}`}`;
}

child.on('message', answer);
child.on('error', (error) => {
  answer({ kind: 'ended', reason: error.message });
});
child.on('close', (code, end) => {
  answer({ kind: 'ended', reason: lastWords(code, end) });
});
port.on('message', (request: LibraryRequest | 'kill') => {
  if (request === 'kill') child.kill('SIGKILL');
  else child.send(request);
});
