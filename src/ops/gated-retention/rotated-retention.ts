/** Gated retention from its projections: queries and keys are rotated and the decay is formed on the way. */
import * as tf from '../../tf.js';
import { hasKernel, isRecordingGradient, runKernel } from '../dispatch.js';
import { type RotaryOptions, rotaryPair, rotationAttributes } from '../rotary/rotary.js';
import { gatedRetention, logDecay, type RetentionResult } from './gated-retention.js';

/** With more positions the work is in retention itself. */
const FEW_POSITIONS = 16;

export interface RotatedRetentionOptions {
  readonly rotation: RotaryOptions;
  /** Of the logarithm of the decay. */
  readonly normalizer: number;
  /** State before the first position, [B, H, Dk, Dv]; absent: zeros. */
  readonly state?: tf.Tensor4D;
}

/**
 * `gatedRetention` of `rotaryPair` of q and k, with the `logDecay` of `gate`.
 * @param q [B, T, H, Dk], @param k of the same shape; both are disposed of when they have been rotated: before
 *   the widest moment
 * @param v [B, T, H, Dv]
 * @param gate [B, T, H], logits of the decay
 */
export function rotatedRetention(
  q: tf.Tensor4D,
  k: tf.Tensor4D,
  v: tf.Tensor4D,
  gate: tf.Tensor3D,
  { rotation, normalizer, state }: RotatedRetentionOptions,
): RetentionResult {
  const isFew = q.shape[1] <= FEW_POSITIONS && (rotation.positions ?? null) === null;
  const isFused = isFew && hasKernel('RotatedRetention') && !isRecordingGradient();
  const [output, last] = tf.tidy(() => {
    if (isFused) {
      const attrs = { ...rotationAttributes(rotation), normalizer };
      return runKernel('RotatedRetention', { q, k, v, gate, state }, attrs, () => []);
    }
    const [queries, keys] = rotaryPair(q, k, rotation);
    tf.dispose([q, k]);
    const retained = gatedRetention(queries, keys, v, logDecay(gate, normalizer), { state });
    return [retained.output, retained.state];
  });
  tf.dispose([q, k]);
  return { output: output as tf.Tensor4D, state: last as tf.Tensor4D };
}
