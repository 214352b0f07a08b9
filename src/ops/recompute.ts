/** Trades time for memory in training: activations are computed again in the backward pass instead of being kept. */
import * as tf from '../tf.js';
import { differentiable } from './dispatch.js';

/**
 * `compute(...inputs)`, keeping nothing but the inputs for the backward pass (Chen et al., arXiv 1604.06174).
 * @param variables those that `compute` reads beside its inputs
 */
export function recomputed(
  compute: (...inputs: tf.Tensor[]) => tf.Tensor,
  inputs: readonly tf.Tensor[],
  variables: readonly tf.Variable[],
): tf.Tensor {
  const all = [...inputs, ...variables];
  const [y] = differentiable({
    inputs: Object.fromEntries(all.map((tensor, i) => [String(i), tensor])),
    forward: (save) => {
      save([...inputs]);
      return [compute(...inputs)];
    },
    backward: ([dy], saved) => {
      const sources: tf.Tensor[] = [...saved, ...variables];
      const gradients = nestedGradients(() => compute(...saved), sources, dy as tf.Tensor);
      return Object.fromEntries(gradients.map((gradient, i) => [String(i), gradient]));
    },
  });
  return y as tf.Tensor;
}

/**
 * The same of several outputs, which `compute` may have kept: those that it makes in the backward pass are disposed of
 * here.
 */
export function recomputedAll(
  compute: (...inputs: tf.Tensor[]) => tf.Tensor[],
  inputs: readonly tf.Tensor[],
  variables: readonly tf.Variable[],
): tf.Tensor[] {
  const all = [...inputs, ...variables];
  return differentiable({
    inputs: Object.fromEntries(all.map((tensor, i) => [String(i), tensor])),
    forward: (save) => {
      save([...inputs]);
      return compute(...inputs);
    },
    backward: (dys, saved) => {
      const sources: tf.Tensor[] = [...saved, ...variables];
      let made: tf.Tensor[] = [];
      // A scalar whose gradients with respect to the outputs are the dys: tfjs goes backward from one tensor only.
      const along = (): tf.Tensor => {
        made = compute(...saved);
        return tf.addN(made.map((y, i) => tf.sum(tf.mul(y, dys[i] as tf.Tensor))));
      };
      const gradients = nestedGradients(along, sources, tf.scalar(1));
      tf.dispose(made);
      return Object.fromEntries(gradients.map((gradient, i) => [String(i), gradient]));
    },
  });
}

/** Gradients computed inside a backward pass: tfjs has one tape, which must be there again afterwards. */
function nestedGradients(compute: () => tf.Tensor, sources: tf.Tensor[], dy: tf.Tensor): tf.Tensor[] {
  const engine = tf.engine();
  const outerTape = engine.state.activeTape;
  try {
    const { grads } = engine.gradients(compute, sources, dy);
    // What the output does not depend on has none: tensors without elements, for example.
    return (grads as (tf.Tensor | undefined)[]).map(
      (gradient, i) => gradient ?? tf.zerosLike(sources[i] as tf.Tensor),
    );
  } finally {
    engine.state.activeTape = outerTape;
  }
}
