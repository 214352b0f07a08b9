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

const globalNorm = (tensors: readonly tf.Tensor[]): number => Math.sqrt(sumOfSquares(tensors));

/** Elements that an engine adds up in float32. Of two million squares the CPU engine's sum is off by 5e-5. */
const BLOCK = 2 ** 18;

/** The sum of the squares of all elements, in float64 beyond blocks of 262,144. */
export function sumOfSquares(tensors: readonly tf.Tensor[]): number {
  const sums = tf.tidy(() =>
    tf.concat1d(
      tensors.flatMap((x) => runKernel('SumOfSquares', { x }, {}, () => blockSums(x)) as tf.Tensor1D[]),
    ),
  );
  const total = Array.from(sums.dataSync()).reduce((sum, value) => sum + value, 0);
  sums.dispose();
  return total;
}

function blockSums(tensor: tf.Tensor): tf.Tensor1D[] {
  const squares = tf.reshape<tf.Rank.R1>(tf.square(tensor), [tensor.size]);
  const whole = Math.floor(tensor.size / BLOCK);
  if (whole === 0) return [tf.sum(squares, 0, true)];
  const rest = tensor.size - whole * BLOCK;
  const blocks = tf.reshape(tf.slice(squares, 0, whole * BLOCK), [whole, BLOCK]);
  const sums = [tf.sum<tf.Tensor1D>(blocks, 1)];
  if (rest > 0) sums.push(tf.sum(tf.slice(squares, whole * BLOCK, rest), 0, true));
  return sums;
}
