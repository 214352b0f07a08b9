/** Queries and keys that several heads of values share. */
import * as tf from '../../tf.js';
import type { RetentionInputs } from './gated-retention.js';

/** The same with a query and a key for every head of the values. */
export function withOwnKeys<I extends RetentionInputs>(inputs: I): I {
  const { q, k, v } = inputs;
  const [groups, heads] = [q.shape[2], v.shape[2]];
  if (groups === heads) return inputs;
  return { ...inputs, q: repeated(q, heads / groups), k: repeated(k, heads / groups) };
}

/** Every head of x [B, T, G, D] `times` times, [B, T, G * times, D]. */
function repeated(x: tf.Tensor4D, times: number): tf.Tensor4D {
  const [batch, time, groups, width] = x.shape;
  const copies = tf.tile(tf.reshape(x, [batch * time, groups, 1, width]), [1, 1, times, 1]);
  return tf.reshape(copies, [batch, time, groups * times, width]);
}

/** The inverse for gradients: the sums over the heads of each group, [B, T, H, D] as [B, T, G, D]. */
export function sumOfGroups(x: tf.Tensor4D, groups: number): tf.Tensor4D {
  const [batch, time, heads, width] = x.shape;
  if (groups === heads) return x;
  const sums = tf.sum(tf.reshape(x, [batch * time, groups, heads / groups, width]), 2);
  return tf.reshape(sums, [batch, time, groups, width]);
}
