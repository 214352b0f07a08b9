/**
 * A signal that the first Ctrl-C (or a termination request) aborts; the second ends the process as usual.
 * @returns the signal, and what stops listening
 */
export function interruption(): [signal: AbortSignal, release: () => void] {
  const controller = new AbortController();
  const names = ['SIGINT', 'SIGTERM'] as const;
  const release = (): void => {
    for (const name of names) process.off(name, stop);
  };
  const stop = (): void => {
    release();
    controller.abort();
    process.stderr.write('\nfinishing this step and saving; press again to quit at once\n');
  };
  for (const name of names) process.on(name, stop);
  return [controller.signal, release];
}
