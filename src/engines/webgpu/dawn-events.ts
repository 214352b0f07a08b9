/**
 * Waiting for the GPU without returning to the event loop. Dawn's binding learns of finished work in a callback that it
 * hands to `setImmediate`; tfjs reads tensors synchronously, while no such callback can run. So those callbacks
 * are kept within reach, and a waiting reader runs them itself.
 */
type Callback = (...args: unknown[]) => void;

const waiting = new Set<() => void>();
let installed = false;

/** Dawn's callbacks are native functions; all others are left alone. */
function isNative(callback: Callback): boolean {
  return Function.prototype.toString.call(callback).includes('[native code]');
}

/** Must be called before Dawn is used. */
export function interceptDawnEvents(): void {
  if (installed) return;
  installed = true;
  const original = globalThis.setImmediate;
  const intercepted = (callback: Callback, ...args: unknown[]): NodeJS.Immediate => {
    if (!isNative(callback)) return original(callback, ...args);
    const run = (): void => {
      if (!waiting.delete(run)) return;
      clearImmediate(handle);
      callback(...args);
    };
    const handle = original(run);
    waiting.add(run);
    return handle;
  };
  Object.defineProperty(globalThis, 'setImmediate', {
    configurable: true,
    writable: true,
    // `util.promisify` finds its variant among the properties of the original.
    value: Object.defineProperties(intercepted, Object.getOwnPropertyDescriptors(original)),
  });
}

/** Runs Dawn's callbacks until `done`. */
export function waitForDawn(done: () => boolean): void {
  while (!done()) for (const run of [...waiting]) run();
}
