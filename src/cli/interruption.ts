import { MARK_LINES, STOP_UNDER_MPIRUN } from '../distributed/ranks.js';

/** How a person stops what would rather finish its step: the first Ctrl-C asks for that, the second ends the process. */
export interface Interruption {
  /** Aborted by the first Ctrl-C or request to terminate. */
  readonly signal: AbortSignal;
  /** From now on; until then, and after `release`, a signal ends the process at once. */
  readonly listen: () => void;
  readonly release: () => void;
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;
/** What `yoco launch` sends to ranks under mpirun. */
const NAMES = process.env[MARK_LINES] ? ([...SIGNALS, STOP_UNDER_MPIRUN] as const) : SIGNALS;

export function interruption(): Interruption {
  const controller = new AbortController();
  const stop = (): void => {
    release();
    controller.abort();
    // A terminal shows ^C where the cursor was.
    const line = process.stderr.isTTY ? '\n' : '';
    process.stderr.write(`${line}finishing this step and saving; press again to quit at once\n`);
  };
  const listen = (): void => {
    for (const name of NAMES) process.on(name, stop);
  };
  const release = (): void => {
    for (const name of NAMES) process.off(name, stop);
  };
  return { signal: controller.signal, listen, release };
}

/** A server's end: the first signal asks for it, the second ends the process. */
export function stopSignal(): { readonly asked: Promise<void>; readonly release: () => void } {
  let stop: () => void = () => undefined;
  const release = (): void => {
    for (const name of NAMES) process.off(name, stop);
  };
  const asked = new Promise<void>((resolve) => {
    stop = () => {
      release();
      resolve();
    };
    for (const name of NAMES) process.on(name, stop);
  });
  return { asked, release };
}
