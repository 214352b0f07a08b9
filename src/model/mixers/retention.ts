/** Retention (RetNet, arXiv 2307.08621): gated retention with a fixed decay for every head. */
import { gatedRmsNorm, linear, linearGroup, retention as retain } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { xavier } from '../initial-values.js';
import { type HeadRotation, mergeHeads, rotationAt, type Rows, splitHeads } from '../layers/heads.js';
import type { Readout } from '../layers/readout.js';
import { RecurrentState, STATE_BYTES } from '../state/constant.js';
import type { StateMemory } from '../state/memory.js';
import { PresentState } from '../state/present.js';
import type { Mixer, MixerDefinition } from './mixer.js';
import { readSelfHeads, type SelfHeadFields } from './self-heads.js';

interface RetentionWeights {
  readonly query: tf.Variable;
  readonly key: tf.Variable;
  readonly value: tf.Variable;
  /** Of the output gate, silu(gate x) * heads. */
  readonly gate: tf.Variable;
  readonly out: tf.Variable;
}

/** What mixes positions; all [B, T, H, D]. */
type RetentionInputs = [q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D];
type Projections = [q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, gate: tf.Tensor3D];

class Retention implements Mixer<StateMemory> {
  constructor(
    private readonly own: RetentionWeights,
    private readonly heads: number,
    private readonly rotation: HeadRotation,
    private readonly normEps: number,
  ) {}

  get weights(): tf.Variable[] {
    const { query, key, value, gate, out } = this.own;
    return [query, key, value, gate, out];
  }

  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: StateMemory, readout: Readout): tf.Tensor3D {
    const { query, key, value, gate, out } = this.own;
    const gated = tf.tidy(() => {
      const [q, k, v, g] = tf.tidy((): Projections => {
        const [q, k, v, g] = linearGroup(x, [query, key, value, gate]) as [
          tf.Tensor,
          tf.Tensor,
          tf.Tensor,
          tf.Tensor3D,
        ];
        return [splitHeads(q, this.heads), splitHeads(k, this.heads), splitHeads(v, this.heads), g];
      });
      const inputs: RetentionInputs = [q, k, v];
      const retained = memory.advance(inputs, rows, ([q, k, v], [state], rows) => {
        const after = retain(q, k, v, { rotation: rotationAt(rows, this.rotation), state });
        return { output: after.output, state: [after.state] };
      }) as tf.Tensor4D;
      readout.offer(() => mergeHeads(retained));
      return mergeHeads(gatedRmsNorm(retained, g, this.normEps));
    });
    return linear(gated, out, residual) as tf.Tensor3D;
  }
}

export const retention: MixerDefinition<SelfHeadFields, StateMemory> = {
  label: 'retention',
  fields: (fields, shape) => ({ selfHeads: readSelfHeads(fields, shape) }),
  parameters: ({ dim }) => [
    ...['q_proj', 'k_proj', 'v_proj', 'g_proj'].map((name) => xavier(name, dim, dim, 2 ** -2.5)),
    xavier('out_proj', dim, dim, 2 ** -1, 'output'),
  ],
  build(config, weight, conventions) {
    const { dim, selfHeads, normEps } = config;
    const own = {
      query: weight('q_proj'),
      key: weight('k_proj'),
      value: weight('v_proj'),
      gate: weight('g_proj'),
      out: weight('out_proj'),
    };
    return new Retention(own, selfHeads, conventions.rotation(dim / selfHeads, config), normEps);
  },
  memory: () => new RecurrentState(),
  present: () => new PresentState(),
  readoutWidth: ({ dim }) => dim,
  keyValueElements: () => 0,
  stateBytes: ({ dim, selfHeads }) => dim * (dim / selfHeads) * STATE_BYTES,
  flops: ({ dim, selfHeads }) => ({
    projections: 2 * 5 * dim * dim,
    mixing: (_, count) => count * 4 * dim * (dim / selfHeads),
  }),
};
