/**
 * Matrix products with weights kept as [out, in], as PyTorch and the official checkpoints do. No biases. Weights may be kept in float8
 * (`float8.ts`): then x is rounded to it as well.
 */
import * as tf from '../../tf.js';
import { differentiable, runKernel } from '../dispatch.js';
import { asRows } from '../reshape.js';
import { isKeptInFloat8, roundedToFloat8 } from './float8.js';

/**
 * y = x weightᵀ (+ residual).
 * @param x [..., in]
 * @param weight [out, in]
 * @param residual [..., out], added in the same pass
 * @returns [..., out]
 */
export function linear(x: tf.Tensor, weight: tf.Tensor, residual?: tf.Tensor): tf.Tensor {
  const inputs = { x, weight, residual };
  if (isKeptInFloat8(weight)) {
    const [y] = runKernel('LinearFloat8', inputs, {}, () => [
      product(roundedToFloat8(x), weight, false, residual),
    ]);
    return y as tf.Tensor;
  }
  const [y] = differentiable({
    inputs,
    forward: (save) => {
      save([x, weight]);
      return [product(x, weight, false, residual)];
    },
    backward: ([dy], saved) => {
      const [x, weight] = saved as [tf.Tensor, tf.Tensor];
      const gradient = dy as tf.Tensor;
      return {
        x: () => product(gradient, weight, true),
        weight: () => weightGradient(gradient, x),
        ...(residual && { residual: () => tf.clone(gradient) }),
      };
    },
  });
  return y as tf.Tensor;
}

/**
 * Several projections of the same x in one step.
 * @param x [..., in]
 * @param weights each [out_i, in]
 * @returns x weight_iᵀ, each [..., out_i]
 */
export function linearGroup(x: tf.Tensor, weights: readonly tf.Tensor[]): tf.Tensor[] {
  const float8 = weights.filter(isKeptInFloat8);
  if (float8.length > 0) return partlyInFloat8(x, weights, float8);
  const inputs = { x, ...numbered('weight', weights) };
  return differentiable({
    inputs,
    forward: (save) => {
      save([x, ...weights]);
      return runKernel('LinearGroup', inputs, { count: weights.length }, () =>
        weights.map((weight) => product(x, weight, false)),
      );
    },
    backward: (dys, saved) => {
      const [x, ...weights] = saved as [tf.Tensor, ...tf.Tensor[]];
      const [dx, ...weightGradients] = groupGradients(dys, x, weights);
      return { x: dx as tf.Tensor, ...numbered('weight', weightGradients) };
    },
  });
}

/** Those in float8 as one step, and the others as another. */
function partlyInFloat8(
  x: tf.Tensor,
  weights: readonly tf.Tensor[],
  float8: readonly tf.Tensor[],
): tf.Tensor[] {
  const inputs = { x, ...numbered('weight', float8) };
  const products = runKernel('LinearGroupFloat8', inputs, { count: float8.length }, () => {
    const rounded = roundedToFloat8(x);
    return float8.map((weight) => product(rounded, weight, false));
  });
  const others = weights.filter((weight) => !float8.includes(weight));
  const made = new Map(float8.map((weight, i) => [weight, products[i] as tf.Tensor]));
  if (others.length > 0) linearGroup(x, others).forEach((y, i) => made.set(others[i] as tf.Tensor, y));
  return weights.map((weight) => made.get(weight) as tf.Tensor);
}

const numbered = (name: string, tensors: readonly tf.Tensor[]): Record<string, tf.Tensor> =>
  Object.fromEntries(tensors.map((tensor, i) => [`${name}${i}`, tensor]));

/** dx, the sum of dy_i weight_i, each product added to the one before, and each dy_iᵀ x. */
function groupGradients(dys: readonly tf.Tensor[], x: tf.Tensor, weights: readonly tf.Tensor[]): tf.Tensor[] {
  const inputs = { x, ...numbered('weight', weights), ...numbered('dy', dys) };
  return runKernel('LinearGroupGrad', inputs, { count: weights.length }, () => {
    const dx = dys.reduce<tf.Tensor | undefined>(
      (sum, dy, i) => product(dy, weights[i] as tf.Tensor, true, sum),
      undefined,
    );
    return [dx as tf.Tensor, ...dys.map((dy) => weightGradient(dy, x))];
  });
}

function product(x: tf.Tensor, weight: tf.Tensor, transposed: boolean, residual?: tf.Tensor): tf.Tensor {
  const inputs = { x, weight, residual };
  const [y] = runKernel('Linear', inputs, { transposed }, () => {
    const width = weight.shape[transposed ? 1 : 0] as number;
    const rows = tf.matMul(asRows(x), weight, false, !transposed);
    const y = tf.reshape(rows, [...x.shape.slice(0, -1), width]);
    return [residual ? tf.add(y, residual) : y];
  });
  return y as tf.Tensor;
}

function weightGradient(dy: tf.Tensor, x: tf.Tensor): tf.Tensor {
  return tf.tidy(() => tf.matMul(asRows(dy), asRows(x), true, false));
}
