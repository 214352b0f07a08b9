/** The L2 norm of several tensors together, and by how much to scale them for it not to pass a limit. */
import * as tf from '../../tf.js';
import { hasKernel, runKernel } from '../dispatch.js';

export interface ClipScale {
  /** Factor of all tensors, a scalar; absent where it is 1. */
  readonly scale?: tf.Scalar;
  /** The norm, which engines that compute the factor themselves have not read back yet. */
  readonly norm: number | tf.Scalar;
}

/**
 * The factor min(1, clip / norm). Where the norm is not a finite number, neither is one of `norm` (if known) and `scale`.
 * @param clip largest norm; 0: no limit
 */
export function clipScale(tensors: readonly tf.Tensor[], clip: number): ClipScale {
  if (hasKernel('ClipScale')) {
    const inputs = Object.fromEntries(tensors.map((tensor, index) => [`x${index}`, tensor]));
    const [norm, scale] = runKernel('ClipScale', inputs, { count: tensors.length, clip }, () => []);
    return { norm: norm as tf.Scalar, scale: scale as tf.Scalar };
  }
  const norm = globalNorm(tensors);
  const factor = clip > 0 && norm > clip ? clip / norm : 1;
  return factor === 1 ? { norm } : { norm, scale: tf.scalar(factor) };
}

function globalNorm(tensors: readonly tf.Tensor[]): number {
  const squares = tf.tidy(() => tf.stack(tensors.map((tensor) => tf.sum(tf.square(tensor)))));
  // Summed in float64, so that the number of tensors costs no precision.
  const norm = Math.sqrt(Array.from(squares.dataSync()).reduce((sum, value) => sum + value, 0));
  squares.dispose();
  return norm;
}
