import * as tf from '../tf.js';
import { differentiable } from './dispatch.js';

/**
 * `tf.reshape` as a step that releases its gradient: tfjs' own keeps the memory until the backward pass ends.
 */
export function reshape<R extends tf.Rank>(x: tf.Tensor, shape: tf.ShapeMap[R]): tf.Tensor<R> {
  const before = x.shape;
  const [y] = differentiable({
    inputs: { x },
    forward: () => [tf.reshape(x, shape)],
    backward: ([dy]) => ({ x: tf.reshape(dy as tf.Tensor, before) }),
  });
  return y as tf.Tensor<R>;
}

/** The same values as a matrix whose rows are the last dimension. Records no gradient. */
export function asRows(x: tf.Tensor): tf.Tensor2D {
  return tf.reshape(x, [-1, x.shape[x.rank - 1] as number]);
}

/** Entries start to start + length - 1 of one axis; x itself where that is all of them. Records no gradient. */
export function sliceAxis<T extends tf.Tensor>(x: T, axis: number, start: number, length: number): T {
  if (start === 0 && length === x.shape[axis]) return x;
  const begin = x.shape.map((_, i) => (i === axis ? start : 0));
  const size = x.shape.map((extent, i) => (i === axis ? length : extent));
  return tf.slice<tf.Rank, T>(x, begin, size);
}
