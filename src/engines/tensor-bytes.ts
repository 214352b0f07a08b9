/** Counts bytes in tensors by what tfjs itself tracks, for engines whose backend has no accounting of its own. */
import * as tf from '../tf.js';

export interface TensorBytes {
  live(): number;
  peak(): number;
  /** Begins a new peak measurement at the present live bytes. */
  resetPeak(): void;
}

let counter: TensorBytes | undefined;

/** The counter of this process; counting begins at the first call. */
export function tensorBytes(): TensorBytes {
  counter ??= startCounting();
  return counter;
}

function startCounting(): TensorBytes {
  const { state } = tf.engine();
  let live = state.numBytes;
  let peak = live;
  // tfjs keeps a running total; turning it into an accessor shows every change of it.
  Object.defineProperty(state, 'numBytes', {
    configurable: true,
    enumerable: true,
    get: () => live,
    set: (bytes: number) => {
      live = bytes;
      peak = Math.max(peak, bytes);
    },
  });
  return {
    live: () => live,
    peak: () => peak,
    resetPeak: () => {
      peak = live;
    },
  };
}
