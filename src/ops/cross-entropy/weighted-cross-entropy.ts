/**
 * A weighted sum of cross-entropies. Its weights are known before the backward pass, so that an engine can form the
 * gradients while it has the logits: they are computed once instead of twice.
 */
import * as tf from '../../tf.js';
import { differentiable, hasKernel, isRecordingGradient, runKernel } from '../dispatch.js';
import { linearCrossEntropy } from './linear-cross-entropy.js';

export interface WeightedLoss {
  /** The sum of weights times losses. */
  readonly total: tf.Scalar;
  /** Loss in nats of every row, [N], to be reported: gradients flow through `total` only. */
  readonly losses: tf.Tensor1D;
}

/**
 * @param x [N, D]
 * @param weight [V, D]
 * @param targets int32 [N]
 * @param weights [N], constants; null: 1 / N each, the mean
 */
export function weightedCrossEntropy(
  x: tf.Tensor2D,
  weight: tf.Tensor2D,
  targets: tf.Tensor1D,
  weights: tf.Tensor1D | null,
): WeightedLoss {
  // The mean is taken of the float32 losses themselves, whatever storage an engine keeps weights in.
  const sum = (losses: tf.Tensor): tf.Scalar =>
    weights === null ? tf.mean(losses) : tf.sum(tf.mul(losses, weights));
  if (!isRecordingGradient() || !hasKernel('WeightedCrossEntropy')) {
    const losses = linearCrossEntropy(x, weight, targets);
    return { total: sum(losses), losses };
  }
  const [total, losses] = differentiable({
    inputs: { x, weight },
    forward: (save) => {
      const rows = x.shape[0];
      const inputs = { x, weight, targets, weights: weights ?? tf.fill([rows], 1 / rows) };
      const [losses, dx, dWeight] = runKernel('WeightedCrossEntropy', inputs, {}, () => []) as Triple;
      save([dx, dWeight]);
      return [sum(losses), losses];
    },
    backward: ([dTotal], [dx, dWeight]) => ({
      x: tf.mul(dx as tf.Tensor, dTotal as tf.Tensor),
      weight: tf.mul(dWeight as tf.Tensor, dTotal as tf.Tensor),
    }),
  }) as [tf.Scalar, tf.Tensor1D];
  return { total, losses };
}

type Triple = [tf.Tensor, tf.Tensor, tf.Tensor];
