/**
 * Root-mean-square normalisation (Zhang and Sennrich, arXiv 1910.07467) over the last dimension:
 * y = x * rsqrt(mean(x^2) + eps) * weight.
 */
import * as tf from '../../tf.js';
import { differentiable, hasKernel, isRecordingGradient, runKernel } from '../dispatch.js';
import { asRows, reshape } from '../reshape.js';
import { swiglu } from '../swiglu/swiglu.js';

/**
 * @param x [..., D]
 * @param weight [D], or null for none
 */
export function rmsNorm<T extends tf.Tensor>(x: T, weight: tf.Tensor | null, eps: number): T {
  const attrs = { eps };
  const inputs = { x, weight: weight ?? undefined };
  const [y] = differentiable({
    inputs,
    forward: (save) => {
      save(weight === null ? [x] : [x, weight]);
      return runKernel('RmsNorm', inputs, attrs, () => {
        const normed = tf.mul(x, inverseRms(x, eps));
        return [weight === null ? normed : tf.mul(normed, weight)];
      });
    },
    backward: ([dy], saved) => {
      const [x, weight] = saved as [tf.Tensor, tf.Tensor | undefined];
      const [dx, dWeight] = rmsNormGradient(dy as tf.Tensor, x, weight, eps) as [tf.Tensor, tf.Tensor];
      return { x: dx, ...(weight && { weight: dWeight }) };
    },
  });
  return y as T;
}

/**
 * What a pre-norm layer y = x + f(rmsNorm(x)) begins with: rmsNorm(x), and x for the sum. Where a gradient is recorded, the second
 * is another tensor of the same memory: x then has one consumer, which adds both gradients in one pass.
 * @param x [..., D], @param weight [D]
 */
export function preNorm<T extends tf.Tensor>(x: T, weight: tf.Tensor, eps: number): [normed: T, residual: T] {
  if (!isRecordingGradient()) return [rmsNorm(x, weight, eps), x];
  const [normed, residual] = differentiable({
    inputs: { x, weight },
    forward: (save) => {
      save([x, weight]);
      return [rmsNorm(x, weight, eps), tf.reshape(x, x.shape)];
    },
    backward: ([dy, dResidual], saved) => {
      const [x, weight] = saved as [tf.Tensor, tf.Tensor];
      const inputs = { dy: dy as tf.Tensor, dResidual: dResidual as tf.Tensor, x, weight };
      const [dx, dWeight] = runKernel('PreNormGrad', inputs, { eps }, () => {
        const [dx, dWeight] = rmsNormGradient(inputs.dy, x, weight, eps) as [tf.Tensor, tf.Tensor];
        return [tf.add(inputs.dResidual, dx), dWeight];
      }) as [tf.Tensor, tf.Tensor];
      return { x: dx, weight: dWeight };
    },
  });
  return [normed as T, residual as T];
}

/**
 * silu(gate) * rmsNorm(x): the output gate of gated retention, without a weight, and of Gated DeltaNet, with one.
 * @param x [..., D], @param gate as many elements in the same order, in any shape
 * @param weight [D], or null for none
 * @returns of the shape of x
 */
export function gatedRmsNorm<T extends tf.Tensor>(
  x: T,
  gate: tf.Tensor,
  eps: number,
  weight: tf.Tensor | null = null,
): T {
  const compose = (): T => swiglu(reshape(gate, x.shape) as T, rmsNorm(x, weight, eps));
  if (isRecordingGradient() || !hasKernel('GatedRmsNorm')) return tf.tidy(compose);
  const inputs = { x, gate, weight: weight ?? undefined };
  const [y] = runKernel('GatedRmsNorm', inputs, { eps }, () => [compose()]);
  return y as T;
}

function inverseRms(x: tf.Tensor, eps: number): tf.Tensor {
  return tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), eps));
}

/**
 * With n = x * r the normed input, r the inverse RMS, and dn = dy * weight: dx = r (dn - n mean(dn n)) and
 * dWeight = sum over rows of dy n.
 */
function rmsNormGradient(
  dy: tf.Tensor,
  x: tf.Tensor,
  weight: tf.Tensor | undefined,
  eps: number,
): tf.Tensor[] {
  const inputs = { dy, x, weight };
  return runKernel('RmsNormGrad', inputs, { eps }, () => {
    const r = inverseRms(x, eps);
    const normed = tf.mul(x, r);
    const dNormed = weight ? tf.mul(dy, weight) : dy;
    const along = tf.mean(tf.mul(dNormed, normed), -1, true);
    const dx = tf.mul(r, tf.sub(dNormed, tf.mul(normed, along)));
    return weight ? [dx, tf.sum(asRows(tf.mul(dy, normed)), 0)] : [dx];
  });
}
