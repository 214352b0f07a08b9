/**
 * Gated retention (You Only Cache Once, arXiv 2405.05254, section 3.3): per head, with decay exp(logDecay_t),
 *
 *     S_t = exp(logDecay_t) S_{t-1} + Dk^-0.5 k_tᵀ v_t        output_t = q_t S_t
 *
 * in three equal forms: step by step (recurrent), all at once (parallel), and chunks of the parallel form between
 * which the state is carried (chunkwise).
 */
import * as tf from '../../tf.js';
import { differentiable, runKernel } from '../dispatch.js';
import { limits } from '../limits.js';
import { composeChunkwise } from './chunkwise.js';
import { composeChunkwiseGradient, type RetentionGradientInputs } from './chunkwise-gradient.js';
import { sumOfGroups } from './groups.js';
import { parallelForm, recurrentForm } from './reference-forms.js';

export interface RetentionInputs {
  /** [B, T, G, Dk] with G a divisor of H: head h of the values has the query and key of head floor(h / (H / G)). */
  readonly q: tf.Tensor4D;
  /** [B, T, G, Dk]; scaled by Dk^-0.5 inside */
  readonly k: tf.Tensor4D;
  /** [B, T, H, Dv] */
  readonly v: tf.Tensor4D;
  /** [B, T, H], at most 0; -Infinity is a decay of 0, which forgets everything before. */
  readonly logDecay: tf.Tensor3D;
  /** State before the first position, [B, H, Dk, Dv]; absent: zeros. */
  readonly state?: tf.Tensor4D;
}

export interface RetentionResult {
  /** [B, T, H, Dv] */
  readonly output: tf.Tensor4D;
  /** State after the last position, [B, H, Dk, Dv]. */
  readonly state: tf.Tensor4D;
}

export interface RetentionOptions {
  readonly state?: tf.Tensor4D;
  /**
   * `chunkwise` (default) is the op engines accelerate. The other two are the definitions, written with plain tfjs
   * ops: `parallel` needs memory quadratic in T, `recurrent` T steps.
   */
  readonly form?: 'parallel' | 'chunkwise' | 'recurrent';
  /** Chunk of the composed chunkwise form; a fused kernel chooses its own. */
  readonly chunkSize?: number;
}

export function gatedRetention(
  q: tf.Tensor4D,
  k: tf.Tensor4D,
  v: tf.Tensor4D,
  logDecay: tf.Tensor3D,
  options: RetentionOptions = {},
): RetentionResult {
  const { state, form = 'chunkwise', chunkSize = limits.retentionChunk } = options;
  const inputs: RetentionInputs = { q, k, v, logDecay, state };
  if (form === 'parallel') return parallelForm(inputs);
  if (form === 'recurrent') return recurrentForm(inputs);
  return chunkwiseForm(inputs, chunkSize);
}

function chunkwiseForm({ q, k, v, logDecay, state }: RetentionInputs, chunkSize: number): RetentionResult {
  const inputs = { q, k, v, logDecay, state };
  const [output, finalState] = differentiable({
    inputs,
    forward: (save) => {
      const outputs = runKernel('GatedRetention', inputs, {}, () => composeChunkwise(inputs, chunkSize));
      save([q, k, v, logDecay, outputs[1] as tf.Tensor, ...(state ? [state] : [])]);
      return outputs;
    },
    backward: ([dOutput, dFinalState], saved) => {
      const [q, k, v, logDecay, finalState, state] = saved;
      const all = { dOutput, dFinalState, q, k, v, logDecay, finalState, state } as RetentionGradientInputs;
      const [dq, dk, dv, dLogDecay, dState] = runKernel('GatedRetentionGrad', all, {}, () =>
        composeChunkwiseGradient(all, chunkSize),
      ) as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D, tf.Tensor3D, tf.Tensor4D];
      const groups = all.q.shape[2];
      return {
        q: sumOfGroups(dq, groups),
        k: sumOfGroups(dk, groups),
        v: dv,
        logDecay: dLogDecay,
        ...(state && { state: dState }),
      };
    },
  });
  return { output: output as tf.Tensor4D, state: finalState as tf.Tensor4D };
}

/**
 * The logarithm of the decay from the gate's logits: log sigmoid(x) / normalizer. The official normalizer is 16.
 * @param x any shape
 */
export function logDecay<T extends tf.Tensor>(x: T, normalizer: number): T {
  const attrs = { normalizer };
  const [y] = differentiable({
    inputs: { x },
    forward: (save) => {
      save([x]);
      return runKernel('LogDecay', { x }, attrs, () => [tf.div(tf.neg(tf.softplus(tf.neg(x))), normalizer)]);
    },
    backward: ([dy], [x]) => {
      const inputs = { dy: dy as T, x: x as T };
      const [dx] = runKernel('LogDecayGrad', inputs, attrs, () => [
        tf.div(tf.mul(inputs.dy, tf.sigmoid(tf.neg(inputs.x))), normalizer),
      ]);
      return { x: dx as T };
    },
  });
  return y as T;
}
