/**
 * Attention that has queries of its own and reads the keys and values of an earlier part: of YOCO's `memory`, or of an
 * attention layer, as in cross-layer attention.
 */
import { linear } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { matrix } from '../initial-values.js';
import { mergeHeads, type Rotation, type Rows, splitHeads } from '../layers/heads.js';
import type { FieldReader } from '../config-fields.js';
import { conventionsOf, type Conventions } from '../conventions.js';
import type { KeyValueMemory } from '../state/memory.js';
import { attentionShape, type HeadFields, readHeads } from './attention.js';
import { keysSeen, type Mixer, type MixerDefinition, type Shape } from './mixer.js';

export type CrossPositions = 'rotary' | 'none';

export const CROSS_POSITIONS: readonly CrossPositions[] = ['rotary', 'none'];

export interface CrossFields extends HeadFields {
  /** `none` leaves queries and keys unrotated: the layers before supply order. YOCO's conventions only. */
  readonly crossPositions?: CrossPositions;
}

/** How queries of `cross` and the keys of `memory` are rotated. */
export function crossRotation(config: Shape & CrossFields, conventions: Conventions): Rotation {
  if (config.crossPositions === 'none') return null;
  return conventions.rotation(attentionShape(config).headDim, config);
}

class CrossAttention implements Mixer<KeyValueMemory> {
  constructor(
    private readonly query: tf.Variable,
    private readonly out: tf.Variable,
    private readonly heads: number,
    private readonly rotation: Rotation,
  ) {}

  get weights(): tf.Variable[] {
    return [this.query, this.out];
  }

  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: KeyValueMemory): tf.Tensor3D {
    const attended = tf.tidy(() => {
      const queries = tf.tidy(() => splitHeads(linear(x, this.query), this.heads));
      return mergeHeads(memory.attend(queries, rows, this.rotation));
    });
    return linear(attended, this.out, residual) as tf.Tensor3D;
  }
}

export const cross: MixerDefinition<CrossFields, KeyValueMemory> = {
  label: 'cross-attention',
  fields: (fields: FieldReader, shape) =>
    conventionsOf(shape).name === 'llama'
      ? readHeads(fields, shape)
      : { crossPositions: fields.choice('crossPositions', CROSS_POSITIONS, 'rotary') },
  parameters(config) {
    const { heads, headDim } = attentionShape(config);
    return [
      matrix('q_proj', heads * headDim, config.dim),
      matrix('out_proj', config.dim, heads * headDim, 'output'),
    ];
  },
  build: (config, weight, conventions) =>
    new CrossAttention(
      weight('q_proj'),
      weight('out_proj'),
      config.heads,
      crossRotation(config, conventions),
    ),
  keyValueElements: () => 0,
  stateBytes: () => 0,
  flops(config) {
    const { heads, headDim } = attentionShape(config);
    return {
      projections: 2 * 2 * config.dim * heads * headDim,
      mixing: (before, count) => 4 * heads * headDim * keysSeen(before, count, null),
    };
  },
};
