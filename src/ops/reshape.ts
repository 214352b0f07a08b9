import * as tf from '../tf.js';
import { differentiable } from './dispatch.js';

/**
 * `tf.reshape` as a step that lets go of its gradient: tfjs' own keeps the memory until the backward pass ends.
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
