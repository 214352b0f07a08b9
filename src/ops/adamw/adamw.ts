/** AdamW (Loshchilov and Hutter, arXiv 1711.05101). */
import * as tf from '../../tf.js';
import { hasKernel, runKernel } from '../dispatch.js';
import type { AdamWAttributes } from '../kernels.js';
import { NotRecordable } from '../recording.js';

export type AdamWOptions = AdamWAttributes & {
  /** Factor of the gradient, a scalar tensor (gradient clipping without reading the norm back); default 1. */
  readonly scale?: tf.Scalar;
};

/** One update, in place, of a parameter and its two moments (which start at zero); all of one shape. */
export function adamW(
  parameter: tf.Variable,
  gradient: tf.Tensor,
  firstMoment: tf.Variable,
  secondMoment: tf.Variable,
  options: AdamWOptions,
): void {
  const { scale, ...attrs } = options;
  if (hasKernel('AdamW')) {
    runKernel('AdamW', { parameter, gradient, firstMoment, secondMoment, scale }, attrs, () => []);
    return;
  }
  tf.tidy(() => {
    const { learningRate, beta1, beta2, epsilon, weightDecay, step } = attrs;
    const scaled = scale ? tf.mul(gradient, scale) : gradient;
    const first = tf.add(tf.mul(firstMoment, beta1), tf.mul(scaled, 1 - beta1));
    const second = tf.add(tf.mul(secondMoment, beta2), tf.mul(tf.square(scaled), 1 - beta2));
    const deviation = tf.add(tf.sqrt(tf.div(second, 1 - beta2 ** step)), epsilon);
    const change = tf.mul(tf.div(first, deviation), learningRate / (1 - beta1 ** step));
    parameter.assign(tf.sub(tf.mul(parameter, 1 - learningRate * weightDecay), change));
    firstMoment.assign(first);
    secondMoment.assign(second);
  });
}

/** A parameter with what its update takes; all of one shape. */
export interface AdamWUpdate {
  readonly parameter: tf.Variable;
  readonly gradient: tf.Tensor;
  readonly firstMoment: tf.Variable;
  readonly secondMoment: tf.Variable;
  readonly weightDecay: number;
}

/**
 * The update of every parameter, in place: `adamW` one after the other, or all at once where the engine can.
 * @param rule that of `adamWRule` in float32, instead of the options: for a recorded update
 */
export function adamWAll(
  updates: readonly AdamWUpdate[],
  options: Omit<AdamWOptions, 'weightDecay'>,
  rule?: tf.Tensor1D,
): void {
  if (!hasKernel('AdamWAll')) {
    if (rule !== undefined)
      throw new NotRecordable('the engine does not read the rule of AdamW from a tensor');
    for (const { parameter, gradient, firstMoment, secondMoment, weightDecay } of updates) {
      adamW(parameter, gradient, firstMoment, secondMoment, { ...options, weightDecay });
    }
    return;
  }
  const { scale, ...attrs } = options;
  const tensors = updates.flatMap(
    ({ parameter, gradient, firstMoment, secondMoment }, i): [string, tf.Tensor][] => [
      [`parameter${i}`, parameter],
      [`gradient${i}`, gradient],
      [`firstMoment${i}`, firstMoment],
      [`secondMoment${i}`, secondMoment],
    ],
  );
  if (scale !== undefined) tensors.push(['scale', scale]);
  if (rule !== undefined) tensors.push(['rule', rule]);
  runKernel(
    'AdamWAll',
    Object.fromEntries(tensors),
    { ...attrs, weightDecays: updates.map(({ weightDecay }) => weightDecay) },
    () => [],
  );
}
