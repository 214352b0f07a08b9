/** Gated retention, the constant-state mixer of YOCO's self-decoder. */
import { gatedRmsNorm, linear, linearGroup, rotatedRetention } from '../../ops/index.js';
import * as tf from '../../tf.js';
import type { LayerState } from '../cache.js';
import { type HeadRotation, mergeHeads, rotationAt, splitHeads } from './heads.js';
import type { Mixer, Rows } from './layer.js';

/** The official code divides the logarithm of the decay by 16. */
const GATE_NORMALIZER = 16;

export interface RetentionWeights {
  readonly query: tf.Variable;
  readonly key: tf.Variable;
  readonly value: tf.Variable;
  /** Of the output gate, silu(gate x) * heads. */
  readonly gate: tf.Variable;
  /** Of the decay, one row per head. */
  readonly decay: tf.Variable;
  readonly out: tf.Variable;
}

export class GatedRetention implements Mixer<LayerState | null> {
  constructor(
    private readonly own: RetentionWeights,
    private readonly heads: number,
    private readonly rotation: HeadRotation,
    private readonly normEps: number,
  ) {}

  get weights(): tf.Variable[] {
    const { query, key, value, gate, decay, out } = this.own;
    return [query, key, value, gate, decay, out];
  }

  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: LayerState | null): tf.Tensor3D {
    const { query, key, value, gate, decay, out } = this.own;
    const gated = tf.tidy(() => {
      const [q, k, v, g, logits] = tf.tidy((): Projections => {
        const projections = linearGroup(x, [query, key, value, gate, decay]);
        const [q, k, v, g, logits] = projections as [
          tf.Tensor,
          tf.Tensor,
          tf.Tensor,
          tf.Tensor3D,
          tf.Tensor3D,
        ];
        const split = (x: tf.Tensor): tf.Tensor4D => splitHeads(x, this.heads);
        return [split(q), split(k), split(v), g, logits];
      });
      const [state] = memory?.get() ?? [];
      const rotation = rotationAt(rows, this.rotation);
      const options = { rotation, normalizer: GATE_NORMALIZER, state };
      const retained = rotatedRetention(q, k, v, logits, options);
      memory?.replace([retained.state]);
      return mergeHeads(gatedRmsNorm(retained.output, g, this.normEps));
    });
    return linear(gated, out, residual) as tf.Tensor3D;
  }
}

type Projections = [q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, gate: tf.Tensor3D, logits: tf.Tensor3D];
