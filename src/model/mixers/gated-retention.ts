/** Gated retention (arXiv 2405.05254, section 3.3), the constant-state mixer of YOCO's self-decoder. */
import { gatedRmsNorm, linear, linearGroup, rotatedRetention } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { xavier } from '../initial-values.js';
import { type HeadRotation, mergeHeads, rotationAt, type Rows, splitHeads } from '../layers/heads.js';
import type { Readout } from '../layers/readout.js';
import { RecurrentState, STATE_BYTES } from '../state/constant.js';
import type { StateMemory } from '../state/memory.js';
import { PresentState } from '../state/present.js';
import type { Mixer, MixerDefinition } from './mixer.js';
import { readSelfHeads, type SelfHeadFields } from './self-heads.js';

/** The official code divides the logarithm of the decay by 16. */
const GATE_NORMALIZER = 16;

interface RetentionWeights {
  readonly query: tf.Variable;
  readonly key: tf.Variable;
  readonly value: tf.Variable;
  /** Of the output gate, silu(gate x) * heads. */
  readonly gate: tf.Variable;
  /** Of the decay, one row per head. */
  readonly decay: tf.Variable;
  readonly out: tf.Variable;
}

/** What mixes positions; all [B, T, ...]. */
type RetentionInputs = [q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, logits: tf.Tensor3D];
type Projections = [q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, gate: tf.Tensor3D, logits: tf.Tensor3D];

class GatedRetention implements Mixer<StateMemory> {
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

  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: StateMemory, readout: Readout): tf.Tensor3D {
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
      const inputs: RetentionInputs = [q, k, v, logits];
      const retained = memory.advance(inputs, rows, ([q, k, v, logits], [state], rows) => {
        const rotation = rotationAt(rows, this.rotation);
        const options = { rotation, normalizer: GATE_NORMALIZER, state };
        const after = rotatedRetention(q, k, v, logits, options);
        return { output: after.output, state: [after.state] };
      }) as tf.Tensor4D;
      readout.offer(() => mergeHeads(retained));
      return mergeHeads(gatedRmsNorm(retained, g, this.normEps));
    });
    return linear(gated, out, residual) as tf.Tensor3D;
  }
}

export const gatedRetention: MixerDefinition<SelfHeadFields, StateMemory> = {
  label: 'gated retention',
  fields: (fields, shape) => ({ selfHeads: readSelfHeads(fields, shape) }),
  parameters: ({ dim, selfHeads }) => [
    ...['q_proj', 'k_proj', 'v_proj', 'g_proj'].map((name) => xavier(name, dim, dim, 2 ** -2.5)),
    xavier('gt_proj', selfHeads, dim, 2 ** -2.5),
    xavier('out_proj', dim, dim, 2 ** -1, 'output'),
  ],
  build(config, weight, conventions) {
    const { dim, selfHeads, normEps } = config;
    const own = {
      query: weight('q_proj'),
      key: weight('k_proj'),
      value: weight('v_proj'),
      gate: weight('g_proj'),
      decay: weight('gt_proj'),
      out: weight('out_proj'),
    };
    return new GatedRetention(own, selfHeads, conventions.rotation(dim / selfHeads, config), normEps);
  },
  memory: () => new RecurrentState(),
  present: () => new PresentState(),
  readoutWidth: ({ dim }) => dim,
  keyValueElements: () => 0,
  stateBytes: ({ dim, selfHeads }) => dim * (dim / selfHeads) * STATE_BYTES,
  flops: ({ dim, selfHeads }) => ({
    projections: 2 * (5 * dim * dim + dim * selfHeads),
    // In its recurrent form, 4 Dk Dv per head: what has to be done, not what a chunkwise implementation does on top.
    mixing: (_, count) => count * 4 * dim * (dim / selfHeads),
  }),
};
