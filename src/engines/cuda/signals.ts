const STATUS = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Runs native code that handles signals itself, as NVRTC does: Node's default handling of a signal that arrives in it never
 * ends. The process exits, with the status a shell gives, in the turns of the event loop after `run`. Signals that the program
 * listens to already are left to it.
 */
export function exitOnSignals<T>(run: () => T): T {
  const names = (Object.keys(STATUS) as (keyof typeof STATUS)[]).filter(
    (name) => process.listenerCount(name) === 0,
  );
  const exit = (name: keyof typeof STATUS): never => process.exit(STATUS[name]);
  for (const name of names) process.on(name, exit);
  try {
    return run();
  } finally {
    // A listener removed at once would not hear what came meanwhile, and this turn of the event loop may be past hearing it.
    setImmediate(() =>
      setImmediate(() => {
        for (const name of names) process.off(name, exit);
      }),
    );
  }
}
