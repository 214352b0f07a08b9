/** The discretisation of Mamba-2: how long a step is, and what is left of the state after it. */
import * as tf from '../../tf.js';
import { differentiable, runKernel } from '../dispatch.js';

export interface TimeSteps {
  /** factor * softplus(x + bias), [B, T, H] */
  readonly step: tf.Tensor3D;
  /** -exp(aLog) * softplus(x + bias), [B, T, H] */
  readonly logDecay: tf.Tensor3D;
}

/**
 * Both in float32 whatever the storage: the decay is summed over hundreds of positions.
 * @param x [B, T, H], @param bias [H], @param aLog [H]
 * @param factor of the step alone
 */
export function timeSteps(x: tf.Tensor3D, bias: tf.Tensor1D, aLog: tf.Tensor1D, factor = 1): TimeSteps {
  const inputs = { x, bias, aLog };
  const [step, logDecay] = differentiable({
    inputs,
    forward: (save) => {
      const outputs = runKernel('TimeStep', inputs, { factor }, () => {
        const plain = tf.softplus(tf.add(x, bias));
        return [tf.mul(plain, factor), tf.neg(tf.mul(plain, tf.exp(aLog)))];
      });
      save([x, bias, aLog, outputs[1] as tf.Tensor]);
      return outputs;
    },
    backward: ([dStep, dLogDecay], [x, bias, aLog, logDecay]) => {
      const [dDecay, decay] = [dLogDecay as tf.Tensor, logDecay as tf.Tensor];
      const toPlain = tf.sub(tf.mul(dStep as tf.Tensor, factor), tf.mul(dDecay, tf.exp(aLog as tf.Tensor)));
      const dx = tf.mul(toPlain, tf.sigmoid(tf.add(x as tf.Tensor, bias as tf.Tensor)));
      // exp(aLog) enters the decay as a factor.
      return { x: dx, bias: tf.sum(dx, [0, 1]), aLog: tf.sum(tf.mul(dDecay, decay), [0, 1]) };
    },
  });
  return { step: step as tf.Tensor3D, logDecay: logDecay as tf.Tensor3D };
}
