/**
 * Keys and values of a sliding window in decoding: a ring of `window` rows in which position p is row p mod window, so that a
 * new position overwrites the one that has left the window and nothing else moves. Until it is full it holds what there is,
 * oldest first. For inference: no gradient.
 */
import * as tf from '../../tf.js';
import { hasKernel, runKernel } from '../dispatch.js';
import { sliceAxis } from '../reshape.js';

/** Both [B, T, H, D]. */
export type KeysAndValues = readonly [keys: tf.Tensor4D, values: tf.Tensor4D];

function each(of: KeysAndValues, change: (x: tf.Tensor4D, i: 0 | 1) => tf.Tensor4D): KeysAndValues {
  const changed = (i: 0 | 1): tf.Tensor4D => tf.tidy(() => change(of[i], i));
  return [changed(0), changed(1)];
}

/** One after the other in time. */
export function joined(before: KeysAndValues, after: KeysAndValues): KeysAndValues {
  return each(before, (x, i) => tf.concat([x, after[i]], 1));
}

/** The rows from `start` on, then those before it. */
function turned(x: tf.Tensor4D, start: number): tf.Tensor4D {
  if (start === 0) return x;
  return tf.concat([sliceAxis(x, 1, start, x.shape[1] - start), sliceAxis(x, 1, 0, start)], 1);
}

/**
 * The ring of the last `window` positions, or as many as there are.
 * @param latest oldest first
 * @param end the position after the last one
 */
export function ringOf(latest: KeysAndValues, end: number, window: number): KeysAndValues {
  const held = latest[0].shape[1];
  const kept = Math.min(held, window);
  // The oldest position is end - window, and so in row end mod window.
  const first = kept < window ? 0 : (window - (end % window)) % window;
  return each(latest, (x) => turned(sliceAxis(x, 1, held - kept, kept), first));
}

/** What the ring holds of the positions before `end`, oldest first. */
export function inOrder(ring: KeysAndValues, end: number, window: number): KeysAndValues {
  return ring[0].shape[1] < window ? ring : each(ring, (x) => turned(x, end % window));
}

/**
 * A full ring with `position` in place of the oldest: the ring itself where it may be changed `inPlace` and the engine can,
 * or else a new one.
 * @param row [B, 1, H, D]
 */
export function withPosition(
  ring: KeysAndValues,
  row: KeysAndValues,
  position: number,
  inPlace: boolean,
): KeysAndValues {
  const [batch, window, heads, width] = ring[0].shape;
  const at = position % window;
  if (!inPlace || !hasKernel('PageWrite')) {
    return each(ring, (x, i) => {
      const parts = [sliceAxis(x, 1, 0, at), row[i], sliceAxis(x, 1, at + 1, window - at - 1)];
      return tf.concat(
        parts.filter((part) => part.shape[1] > 0),
        1,
      );
    });
  }
  tf.tidy(() => {
    // All heads of a row lie together: a page of one wide head.
    const page = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [batch, 1, window, heads * width]);
    const fresh = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [batch, 1, 1, heads * width]);
    const inputs = {
      keyPage: page(ring[0]),
      valuePage: page(ring[1]),
      keys: fresh(row[0]),
      values: fresh(row[1]),
    };
    runKernel('PageWrite', inputs, { position: at, start: 0, count: 1 }, () => []);
  });
  return ring;
}
