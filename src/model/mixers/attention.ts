/** Causal self-attention over the whole context (Vaswani et al., arXiv 1706.03762), with grouped K/V heads. */
import { linear, linearGroup } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { type RopeScaling, readScaling } from '../rope-scaling.js';
import { conventionsOf } from '../conventions.js';
import { matrix, type ParameterInput } from '../initial-values.js';
import { mergeHeads, type Rotation, type Rows, splitHeads } from '../layers/heads.js';
import { UsageError } from '../../errors.js';
import type { KeyValueMemory, SelfMemory } from '../state/memory.js';
import { keyValueMemory } from '../state/pages.js';
import { PresentKeys } from '../state/present.js';
import { keysSeen, type Mixer, type MixerDefinition, type MixerFlops, type Shape } from './mixer.js';

/** Fields of models with Llama's conventions. */
export interface HeadFields {
  /** Width of a head; default dim / heads. */
  readonly headDim?: number;
  readonly ropeScaling?: RopeScaling | null;
}

export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** With Llama's conventions: a head's width of its own, and stretched rotary frequencies. */
export const readHeads: MixerDefinition<HeadFields>['fields'] = (fields, shape) => {
  if (conventionsOf(shape).name !== 'llama') return {};
  const headDim = fields.positiveInteger('headDim', shape.dim / shape.heads);
  if (headDim % 2 !== 0) throw new UsageError(`configuration: headDim must be even, found ${headDim}`);
  return { headDim, ropeScaling: readScaling(fields) };
};

export function attentionShape({
  dim,
  heads,
  kvHeads,
  headDim = dim / heads,
}: Shape & HeadFields): AttentionShape {
  return { heads, kvHeads, headDim };
}

export function attentionParameters(
  dim: number,
  { heads, kvHeads, headDim }: AttentionShape,
): ParameterInput[] {
  return [
    matrix('q_proj', heads * headDim, dim),
    matrix('k_proj', kvHeads * headDim, dim),
    matrix('v_proj', kvHeads * headDim, dim),
    matrix('out_proj', dim, heads * headDim, 'output'),
  ];
}

export function attentionFlops(
  dim: number,
  { heads, kvHeads, headDim }: AttentionShape,
  window: number | null,
): MixerFlops {
  const queryWidth = heads * headDim;
  return {
    projections: 2 * (2 * dim * queryWidth + 2 * dim * kvHeads * headDim),
    mixing: (before, count) => 4 * queryWidth * keysSeen(before, count, window),
  };
}

export interface AttentionWeights {
  readonly query: tf.Variable;
  readonly key: tf.Variable;
  readonly value: tf.Variable;
  readonly out: tf.Variable;
}

/** Over whatever of the context its memory keeps. */
export class SelfAttention implements Mixer<SelfMemory> {
  constructor(
    private readonly own: AttentionWeights,
    private readonly shape: AttentionShape,
    private readonly rotation: Rotation,
  ) {}

  get weights(): tf.Variable[] {
    const { query, key, value, out } = this.own;
    return [query, key, value, out];
  }

  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: SelfMemory): tf.Tensor3D {
    const { query, key, value, out } = this.own;
    const { heads, kvHeads } = this.shape;
    const attended = tf.tidy(() => {
      const [q, k, v] = tf.tidy((): [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D] => {
        const [q, k, v] = linearGroup(x, [query, key, value]) as [tf.Tensor, tf.Tensor, tf.Tensor];
        return [splitHeads(q, heads), splitHeads(k, kvHeads), splitHeads(v, kvHeads)];
      });
      return mergeHeads(memory.extend(q, k, v, rows, this.rotation));
    });
    return linear(attended, out, residual) as tf.Tensor3D;
  }
}

export const attention: MixerDefinition<HeadFields, KeyValueMemory> = {
  label: 'attention',
  fields: readHeads,
  parameters: (config) => attentionParameters(config.dim, attentionShape(config)),
  build(config, weight, conventions) {
    const shape = attentionShape(config);
    const own = {
      query: weight('q_proj'),
      key: weight('k_proj'),
      value: weight('v_proj'),
      out: weight('out_proj'),
    };
    return new SelfAttention(own, shape, conventions.rotation(shape.headDim, config));
  },
  memory: (config, options) => keyValueMemory({ ...options, ...attentionShape(config) }),
  present: (_, isRead) => new PresentKeys(isRead),
  keyValueElements(config) {
    const { kvHeads, headDim } = attentionShape(config);
    return 2 * kvHeads * headDim;
  },
  stateBytes: () => 0,
  flops: (config) => attentionFlops(config.dim, attentionShape(config), null),
};
