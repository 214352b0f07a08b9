/**
 * The gated delta rule (Gated Delta Networks, arXiv 2412.06464): per head, with decay α_t = exp(logDecay_t) and strength β_t,
 * the state forgets, then what it answers to k_t moves towards v_t:
 *
 *     S_t = α_t S_{t-1} + k_tᵀ β_t (v_t - α_t k_t S_{t-1})        output_t = q_t S_t
 *
 * step by step (recurrent), or in chunks (chunkwise) whose updates follow from a triangular system (the WY representation of
 * Yang et al., arXiv 2406.06484) and between which the state is carried.
 */
import type * as tf from '../../tf.js';
import { differentiable, runKernel } from '../dispatch.js';
import type { DeltaAttributes } from '../kernels.js';
import { limits } from '../limits.js';
import { composeDelta } from './chunkwise.js';
import { composeDeltaGradient, type DeltaGradientInputs } from './chunkwise-gradient.js';
import { recurrentDelta } from './recurrent.js';

export interface DeltaInputs {
  /** [B, T, H, Dk] */
  readonly q: tf.Tensor4D;
  /** [B, T, H, Dk]; times `keyScale` its norm should be at most 1: the state grows without limit where β |k|² is above 2. */
  readonly k: tf.Tensor4D;
  /** [B, T, H, Dv] */
  readonly v: tf.Tensor4D;
  /** [B, T, H], at most 0; -Infinity is a decay of 0, which forgets everything before. */
  readonly logDecay: tf.Tensor3D;
  /** [B, T, H], from 0, which writes nothing, to 1, which replaces. */
  readonly beta: tf.Tensor3D;
  /** State before the first position, [B, H, Dk, Dv]; absent: zeros. */
  readonly state?: tf.Tensor4D;
}

export interface DeltaResult {
  /** [B, T, H, Dv] */
  readonly output: tf.Tensor4D;
  /** State after the last position, [B, H, Dk, Dv]. */
  readonly state: tf.Tensor4D;
}

export interface DeltaOptions extends Partial<DeltaAttributes> {
  readonly state?: tf.Tensor4D;
  /** `chunkwise` (default) is the op engines accelerate; `recurrent` is the definition, in T steps of plain tfjs ops. */
  readonly form?: 'chunkwise' | 'recurrent';
  /** Chunk of the composed chunkwise form; a fused kernel chooses its own. */
  readonly chunkSize?: number;
}

/** Queries are scaled by `queryScale` (default Dk^-0.5) and keys by `keyScale` (default 1) inside. */
export function gatedDeltaRule(
  q: tf.Tensor4D,
  k: tf.Tensor4D,
  v: tf.Tensor4D,
  logDecay: tf.Tensor3D,
  beta: tf.Tensor3D,
  options: DeltaOptions = {},
): DeltaResult {
  const { state, form = 'chunkwise', chunkSize = limits.deltaChunk } = options;
  const { queryScale = q.shape[3] ** -0.5, keyScale = 1 } = options;
  const inputs: DeltaInputs = { q, k, v, logDecay, beta, state };
  const attrs = { queryScale, keyScale };
  return form === 'recurrent' ? recurrentDelta(inputs, attrs) : chunkwiseForm(inputs, attrs, chunkSize);
}

function chunkwiseForm(
  { q, k, v, logDecay, beta, state }: DeltaInputs,
  attrs: DeltaAttributes,
  chunkSize: number,
): DeltaResult {
  const inputs = { q, k, v, logDecay, beta, state };
  const [output, finalState] = differentiable({
    inputs,
    forward: (save) => {
      const outputs = runKernel('GatedDeltaRule', inputs, attrs, () =>
        composeDelta(inputs, attrs, chunkSize),
      );
      save([q, k, v, logDecay, beta, outputs[1] as tf.Tensor, ...(state ? [state] : [])]);
      return outputs;
    },
    backward: ([dOutput, dFinalState], saved) => {
      const [q, k, v, logDecay, beta, finalState, state] = saved;
      const all = { dOutput, dFinalState, q, k, v, logDecay, beta, finalState, state } as DeltaGradientInputs;
      const [dq, dk, dv, dLogDecay, dBeta, dState] = runKernel('GatedDeltaRuleGrad', all, attrs, () =>
        composeDeltaGradient(all, attrs, chunkSize),
      ) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
      return { q: dq, k: dk, v: dv, logDecay: dLogDecay, beta: dBeta, ...(state && { state: dState }) };
    },
  });
  return { output: output as tf.Tensor4D, state: finalState as tf.Tensor4D };
}
