/**
 * The end of a process that has called native libraries. koffi's exit handler flushes stdout to the disk and, where that
 * fails, waits for a lock that it holds itself; other libraries wait for their threads. Nothing of ours depends on them.
 */
import { isMainThread } from 'node:worker_threads';
import type koffiModule from 'koffi';

let endAtOnce: ((status: number) => void) | undefined;

/** To be called by whatever loads koffi. */
export function koffiIsLoaded(koffi: typeof koffiModule): void {
  // Windows has no such handlers, and names the function otherwise.
  if (endAtOnce !== undefined || process.platform === 'win32') return;
  endAtOnce = koffi.load(null).func('void _exit(int status)') as (status: number) => void;
}

/** From now on this process ends after the listeners of Node's `exit` event, without the handlers of native libraries. */
export function skipExitHandlers(): void {
  if (!isMainThread) return;
  const node = process as unknown as { reallyExit: (status?: number) => void };
  const reallyExit = node.reallyExit.bind(process);
  node.reallyExit = (status) => {
    endAtOnce?.(status ?? 0);
    reallyExit(status);
  };
  // A process with nothing left to do would end another way.
  process.on('beforeExit', () => {
    process.exit();
  });
}
