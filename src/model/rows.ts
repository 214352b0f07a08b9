/** Choosing rows of activations. */
import { embedding, reshape } from '../ops/index.js';
import * as tf from '../tf.js';

/** The last row of [B, T, dim], [B, 1, dim]: x itself where it has no other. */
export function lastRow(x: tf.Tensor3D): tf.Tensor3D {
  const [batch, count, dim] = x.shape;
  return count === 1 ? x : tf.slice(x, [0, count - 1, 0], [batch, 1, dim]);
}

/** The last of tokens [B, T], [B, 1]. */
export function lastToken(tokens: tf.Tensor2D): tf.Tensor2D {
  const [batch, count] = tokens.shape;
  return count === 1 ? tokens : tf.slice(tokens, [0, count - 1], [batch, 1]);
}

/** The rows of x [B, T, dim] at `positions` ([B, P] row-major), [B, P, dim]. */
export function pickRows(x: tf.Tensor3D, positions: Int32Array): tf.Tensor3D {
  const [batch, time, dim] = x.shape;
  const perSequence = positions.length / batch;
  const rows = positions.map((position, i) => Math.floor(i / perSequence) * time + position);
  const ids = tf.tensor2d(rows, [batch, perSequence], 'int32');
  return embedding(reshape(x, [batch * time, dim]), ids) as tf.Tensor3D;
}

/** Lists of positions, one after the other. @throws RangeError unless they are equally long */
export function flatten(lists: readonly ArrayLike<number>[]): Int32Array {
  const length = lists[0]?.length ?? 0;
  if (lists.some((list) => list.length !== length)) {
    throw new RangeError('every sequence must have the same number of positions');
  }
  return Int32Array.from(lists.flatMap((list) => Array.from(list)));
}
