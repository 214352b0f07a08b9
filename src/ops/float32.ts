/** Full precision whatever the storage of the engine. */
import * as tf from '../tf.js';
import { hasKernel, runKernel } from './dispatch.js';

/** The same values, kept in float32; what is computed from such tensors alone is so too. */
export function float32<T extends tf.Tensor>(x: T): T {
  return runKernel('Float32', { x }, {}, () => [x])[0] as T;
}

/** A tensor of values that stay as they are, where `tf.tensor` would round them to the storage of the engine. */
export function float32Tensor(values: Float32Array, shape: readonly number[]): tf.Tensor {
  // A copy: backends keep the array they are given.
  if (!hasKernel('Float32Bits')) return tf.tensor(values.slice(), [...shape]);
  return tf.tidy(() => {
    const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
    const x = tf.tensor(bits, [...shape], 'int32');
    return runKernel('Float32Bits', { x }, {}, () => [])[0] as tf.Tensor;
  });
}
