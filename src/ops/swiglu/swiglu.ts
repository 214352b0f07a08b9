/** The gated activation of SwiGLU networks (Shazeer, arXiv 2002.05202): silu(a) * b, silu(a) = a sigmoid(a). */
import * as tf from '../../tf.js';
import { differentiable, hasKernel, isRecordingGradient, runKernel } from '../dispatch.js';
import { isKeptInFloat8, roundedToFloat8 } from '../linear/float8.js';
import { linearGroup } from '../linear/linear.js';

/** @param a the activated, @param b the linear factor, of equal shape */
export function swiglu<T extends tf.Tensor>(a: T, b: T): T {
  const [y] = differentiable({
    inputs: { a, b },
    forward: (save) => {
      save([a, b]);
      return runKernel('SwiGlu', { a, b }, {}, () => [tf.mul(tf.mul(a, tf.sigmoid(a)), b)]);
    },
    backward: ([dy], [a, b]) => {
      const [da, db] = swigluGradient(dy as T, a as T, b as T) as [T, T];
      return { a: da, b: db };
    },
  });
  return y as T;
}

/**
 * silu(x activatedᵀ) * (x gateᵀ): the wide part of the feed-forward network. With weights that are kept in float8 it is rounded to that
 * itself, as the product after it would do.
 * @param x [..., in]
 * @param activated [out, in], @param gate [out, in]
 * @returns [..., out]
 */
export function linearSwiglu(x: tf.Tensor, activated: tf.Tensor, gate: tf.Tensor): tf.Tensor {
  const compose = (): tf.Tensor => {
    const [a, b] = linearGroup(x, [activated, gate]) as [tf.Tensor, tf.Tensor];
    return swiglu(a, b);
  };
  if (isKeptInFloat8(activated) && isKeptInFloat8(gate)) {
    const inputs = { x, activated, gate };
    const [y] = runKernel('LinearSwiGluFloat8', inputs, {}, () => [roundedToFloat8(compose())]);
    return y as tf.Tensor;
  }
  if (isRecordingGradient() || !hasKernel('LinearSwiGlu')) return tf.tidy(compose);
  const [y] = runKernel('LinearSwiGlu', { x, activated, gate }, {}, () => [compose()]);
  return y as tf.Tensor;
}

/** With s = sigmoid(a): da = dy b s (1 + a (1 - s)), db = dy a s. */
function swigluGradient<T extends tf.Tensor>(dy: T, a: T, b: T): tf.Tensor[] {
  return runKernel('SwiGluGrad', { dy, a, b }, {}, () => {
    const s = tf.sigmoid(a);
    const activated = tf.mul(a, s);
    const slope = tf.add(s, tf.sub(activated, tf.mul(activated, s)));
    return [tf.mul(tf.mul(dy, b), slope), tf.mul(dy, activated)];
  });
}
