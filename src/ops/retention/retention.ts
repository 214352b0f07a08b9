/**
 * Retention (Sun et al., *Retentive Network*, arXiv 2307.08621): gated retention whose decay is fixed, another one for every
 * head. Per head h, with γ = 1 - 2^(-5 - h),
 *
 *     S_t = γ S_{t-1} + Dk^-0.5 k_tᵀ v_t        output_t = q_t S_t
 */
import * as tf from '../../tf.js';
import { gatedRetention, type RetentionResult } from '../gated-retention/gated-retention.js';
import { type RotaryOptions, rotaryPair } from '../rotary/rotary.js';

export interface FixedRetentionOptions {
  readonly rotation: RotaryOptions;
  /** State before the first position, [B, H, Dk, Dv]; absent: zeros. */
  readonly state?: tf.Tensor4D;
}

/** Logarithms of the decays of `heads` heads. */
export function logDecays(heads: number): Float32Array {
  return Float32Array.from({ length: heads }, (_, head) => Math.log1p(-(2 ** (-5 - head))));
}

/**
 * Retention of q and k rotated by `rotaryPair`.
 * @param q [B, T, H, Dk], @param k of the same shape; both are disposed of
 * @param v [B, T, H, Dv]
 */
export function retention(
  q: tf.Tensor4D,
  k: tf.Tensor4D,
  v: tf.Tensor4D,
  { rotation, state }: FixedRetentionOptions,
): RetentionResult {
  const [batch, time, heads] = q.shape;
  const [output, last] = tf.tidy(() => {
    const [queries, keys] = rotaryPair(q, k, rotation);
    tf.dispose([q, k]);
    const decays = tf.tile(tf.tensor3d(logDecays(heads), [1, 1, heads]), [batch, time, 1]);
    const retained = gatedRetention(queries, keys, v, decays, { state });
    return [retained.output, retained.state];
  });
  return { output: output, state: last };
}
