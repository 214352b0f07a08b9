/** What a tensor takes in the memory of the engine that holds it. */
import * as tf from '../tf.js';

/** A backend that stores tensors in another type than tfjs believes says how many bytes they take. */
interface Accounting {
  bytesOf?(tensor: tf.TensorInfo): number;
}

/** Bytes of a tensor as the current engine stores it: two an element where that is bfloat16. */
export function storedBytes(tensor: tf.Tensor): number {
  const backend = tf.backend() as Accounting;
  return backend.bytesOf?.(tensor) ?? tensor.size * tf.util.bytesPerElement(tensor.dtype);
}
