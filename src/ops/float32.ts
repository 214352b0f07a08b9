/** Full precision whatever the storage of the engine. */
import type * as tf from '../tf.js';
import { runKernel } from './dispatch.js';

/** The same values, kept in float32; what is computed from such tensors alone is so too. */
export function float32<T extends tf.Tensor>(x: T): T {
  return runKernel('Float32', { x }, {}, () => [x])[0] as T;
}
