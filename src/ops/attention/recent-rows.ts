/** The newest positions of a compressed cache, which it keeps as computed: a ring in which row p mod RECENT holds position p. */
import * as tf from '../../tf.js';
import { sliceAxis } from '../reshape.js';
import { RECENT } from './cache-type.js';
import type { Page } from './key-value-pages.js';

/** A ring of RECENT rows, [B, H, RECENT, D], from those that hold the positions from `first` on. */
export function ringOf(rows: tf.Tensor4D, first: number): tf.Tensor4D {
  const [batch, heads, count, width] = rows.shape;
  const empty = (size: number): tf.Tensor4D[] =>
    size > 0 ? [tf.fill<tf.Rank.R4>([batch, heads, size, width], 0)] : [];
  const at = first % RECENT;
  // Beyond the end of the ring it begins anew.
  const straight = Math.min(count, RECENT - at);
  const parts =
    straight < count
      ? [
          sliceAxis(rows, 2, straight, count - straight),
          ...empty(RECENT - count),
          sliceAxis(rows, 2, 0, straight),
        ]
      : [...empty(at), rows, ...empty(RECENT - at - count)];
  return tf.keep(parts.length === 1 ? tf.clone(parts[0] as tf.Tensor4D) : tf.concat(parts, 2));
}

export const cloned = ({ key, value }: Page): Page => ({
  key: tf.keep(tf.clone(key)),
  value: tf.keep(tf.clone(value)),
});
