/**
 * The state-space layer of Mamba-2 (Dao and Gu, *Transformers are SSMs*, arXiv 2405.21060). Per head, with the step
 * Δ_t = softplus(dt_t + dtBias) and the scalar A = -exp(aLog),
 *
 *     S_t = exp(Δ_t A) S_{t-1} + Δ_t b_tᵀ x_t        output_t = c_t S_t + skip x_t
 *
 * That is gated retention of queries c, keys b, values Δ x and log decays Δ A, whose recurrent, parallel and chunkwise forms
 * (the paper's state-space duality) and fused kernels serve here too. Heads share b and c in groups.
 */
import * as tf from '../../tf.js';
import { hasKernel, isRecordingGradient, runKernel } from '../dispatch.js';
import { gatedRetention, type RetentionOptions } from '../gated-retention/gated-retention.js';
import { timeSteps } from './time-step.js';

/** With more positions the work is in retention itself. */
const FEW_POSITIONS = 16;

export interface StateSpaceInputs {
  /** [B, T, H, P] */
  readonly x: tf.Tensor4D;
  /** Logits of the step, [B, T, H]. */
  readonly dt: tf.Tensor3D;
  /** [B, T, G, N] with G a divisor of H: head h has those of group floor(h / (H / G)). */
  readonly b: tf.Tensor4D;
  readonly c: tf.Tensor4D;
}

/** Each [H]. */
export interface StateSpaceWeights {
  readonly dtBias: tf.Tensor1D;
  readonly aLog: tf.Tensor1D;
  readonly skip: tf.Tensor1D;
}

export interface StateSpaceResult {
  /** [B, T, H, P] */
  readonly output: tf.Tensor4D;
  /** State after the last position, [B, H, N, P]. */
  readonly state: tf.Tensor4D;
}

/** `form` is one of gated retention's; `state` [B, H, N, P], absent: zeros. */
export function stateSpaceDual(
  inputs: StateSpaceInputs,
  weights: StateSpaceWeights,
  options: RetentionOptions = {},
): StateSpaceResult {
  const { x, b } = inputs;
  const { state, form } = options;
  const [batch, time, heads, width] = x.shape;
  if (time === 0) {
    const initial = state ? tf.clone(state) : tf.zeros<tf.Rank.R4>([batch, heads, b.shape[3], width]);
    return { output: tf.zeros([batch, 0, heads, width]), state: initial };
  }
  const isFew = time <= FEW_POSITIONS && form === undefined && !isRecordingGradient();
  if (isFew && hasKernel('StateSpaceDual')) {
    const [output, last] = runKernel('StateSpaceDual', { ...inputs, ...weights, state }, {}, () => []);
    return { output: output as tf.Tensor4D, state: last as tf.Tensor4D };
  }
  const [output, last] = tf.tidy(() => compose(inputs, weights, options));
  return { output: output, state: last };
}

function compose(
  { x, dt, b, c }: StateSpaceInputs,
  { dtBias, aLog, skip }: StateSpaceWeights,
  options: RetentionOptions,
): [tf.Tensor4D, tf.Tensor4D] {
  const heads = x.shape[2];
  // Gated retention scales keys by N^-0.5, state spaces do not: the step takes the inverse.
  const { step, logDecay } = timeSteps(dt, dtBias, aLog, b.shape[3] ** 0.5);
  const values = tf.mul<tf.Tensor4D>(x, tf.expandDims(step, 3));
  const retained = gatedRetention(c, b, values, logDecay, options);
  values.dispose();
  const output = tf.add<tf.Tensor4D>(retained.output, tf.mul(x, tf.reshape(skip, [heads, 1])));
  return [output, retained.state];
}
