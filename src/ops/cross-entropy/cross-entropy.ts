/** Cross-entropy of logits against target ids, in nats, unreduced: loss = logSumExp(logits) - logits[target]. */
import * as tf from '../../tf.js';
import { differentiable, runKernel } from '../dispatch.js';

/**
 * @param logits [N, V]
 * @param targets int32 [N]
 * @returns [N]
 */
export function crossEntropy(logits: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor1D {
  const [loss] = differentiable({
    inputs: { logits },
    forward: (save) => {
      const [loss, logSumExp] = runKernel('CrossEntropy', { logits, targets }, {}, () => {
        const logSumExp = tf.logSumExp(logits, 1);
        return [tf.sub(logSumExp, targetLogits(logits, targets)), logSumExp];
      }) as [tf.Tensor, tf.Tensor];
      save([logits, targets, logSumExp]);
      return [loss];
    },
    backward: ([dy], saved) => {
      const [logits, targets, logSumExp] = saved as [tf.Tensor2D, tf.Tensor1D, tf.Tensor1D];
      const inputs = { dy: dy as tf.Tensor1D, logits, targets, logSumExp };
      const [dLogits] = runKernel('CrossEntropyGrad', inputs, {}, () => {
        const probabilities = tf.exp(tf.sub(logits, tf.expandDims(logSumExp, 1)));
        const oneHot = tf.oneHot(targets, logits.shape[1], 1, 0, 'float32');
        return [tf.mul(tf.sub(probabilities, oneHot), tf.expandDims(inputs.dy, 1))];
      });
      return { logits: dLogits as tf.Tensor };
    },
  });
  return loss as tf.Tensor1D;
}

/** logits[n, targets[n]], [N]. */
function targetLogits(logits: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor {
  const [rows, width] = logits.shape;
  const rowStarts = tf.range(0, rows * width, width, 'int32');
  return tf.gather(tf.reshape(logits, [-1]), tf.add(rowStarts, targets));
}
