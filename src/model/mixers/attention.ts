/** Causal self-attention over the whole context (Vaswani et al., arXiv 1706.03762), with grouped K/V heads. */
import { linear, linearGroup, rmsNorm } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { type RopeScaling, readScaling } from '../rope-scaling.js';
import { conventionsOf } from '../conventions.js';
import { bias, matrix, norm, type ParameterInput } from '../initial-values.js';
import { mergeHeads, type Rotation, type Rows, splitHeads } from '../layers/heads.js';
import { UsageError } from '../../errors.js';
import type { KeyValueMemory, SelfMemory } from '../state/memory.js';
import { keyValueMemory } from '../state/pages.js';
import { PresentKeys } from '../state/present.js';
import {
  keysSeen,
  type Mixer,
  type MixerDefinition,
  type MixerFlops,
  type Shape,
  type WeightOf,
} from './mixer.js';

/** Fields of models with Llama's conventions. */
export interface HeadFields {
  /** Width of a head; default dim / heads. */
  readonly headDim?: number;
  readonly ropeScaling?: RopeScaling | null;
  /** The Transformer's only: see `TransformerConfig`. */
  readonly attentionBias?: true;
  readonly qkNorm?: true;
}

export const HEAD_OPTIONS = ['attentionBias', 'qkNorm'] as const;
export type HeadOption = (typeof HEAD_OPTIONS)[number];

export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly attentionBias?: true;
  readonly qkNorm?: true;
}

/** With Llama's conventions: a head's width of its own, and stretched rotary frequencies. */
export const readHeads: MixerDefinition<HeadFields>['fields'] = (fields, shape) => {
  if (conventionsOf(shape).name !== 'llama') return {};
  const headDim = fields.positiveInteger('headDim', shape.dim / shape.heads);
  if (headDim % 2 !== 0) throw new UsageError(`configuration: headDim must be even, found ${headDim}`);
  const options = shape.architecture === 'transformer' ? HEAD_OPTIONS : [];
  return {
    headDim,
    ropeScaling: readScaling(fields),
    // Left out where false, so that configurations from before them are the same.
    ...Object.fromEntries(options.filter((name) => fields.boolean(name, false)).map((name) => [name, true])),
  };
};

export function attentionShape({
  dim,
  heads,
  kvHeads,
  headDim = dim / heads,
  attentionBias,
  qkNorm,
}: Shape & HeadFields): AttentionShape {
  return { heads, kvHeads, headDim, attentionBias, qkNorm };
}

export function attentionParameters(
  dim: number,
  { heads, kvHeads, headDim, attentionBias, qkNorm }: AttentionShape,
): ParameterInput[] {
  const width = kvHeads * headDim;
  return [
    matrix('q_proj', heads * headDim, dim),
    matrix('k_proj', kvHeads * headDim, dim),
    matrix('v_proj', kvHeads * headDim, dim),
    matrix('out_proj', dim, heads * headDim, 'output'),
    ...(attentionBias ? [bias('q_proj', heads * headDim), bias('k_proj', width), bias('v_proj', width)] : []),
    ...(qkNorm ? [norm('q_norm', headDim), norm('k_norm', headDim)] : []),
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
  /** Of queries, keys and values. */
  readonly biases?: readonly [tf.Variable, tf.Variable, tf.Variable];
  /** Of the heads of queries and of keys. */
  readonly norms?: readonly [tf.Variable, tf.Variable];
}

/** The parameters of self-attention. */
export function attentionWeights(
  { attentionBias, qkNorm }: AttentionShape,
  weight: WeightOf,
): AttentionWeights {
  return {
    query: weight('q_proj'),
    key: weight('k_proj'),
    value: weight('v_proj'),
    out: weight('out_proj'),
    ...(attentionBias && {
      biases: [weight('q_proj.bias'), weight('k_proj.bias'), weight('v_proj.bias')],
    }),
    ...(qkNorm && { norms: [weight('q_norm'), weight('k_norm')] }),
  };
}

/** Over whatever of the context its memory keeps. */
export class SelfAttention implements Mixer<SelfMemory> {
  constructor(
    private readonly own: AttentionWeights,
    private readonly shape: AttentionShape,
    private readonly rotation: Rotation,
    private readonly normEps: number,
  ) {}

  get weights(): tf.Variable[] {
    const { query, key, value, out, biases = [], norms = [] } = this.own;
    return [query, key, value, out, ...biases, ...norms];
  }

  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: SelfMemory): tf.Tensor3D {
    const { query, key, value, out, biases, norms } = this.own;
    const { heads, kvHeads } = this.shape;
    const attended = tf.tidy(() => {
      const [q, k, v] = tf.tidy((): [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D] => {
        const projected = linearGroup(x, [query, key, value]) as [tf.Tensor, tf.Tensor, tf.Tensor];
        const [q, k, v] = biases ? projected.map((y, i) => tf.add(y, biases[i] as tf.Variable)) : projected;
        const [queries, keys] = [splitHeads(q as tf.Tensor, heads), splitHeads(k as tf.Tensor, kvHeads)];
        const values = splitHeads(v as tf.Tensor, kvHeads);
        if (!norms) return [queries, keys, values];
        const [ofQueries, ofKeys] = norms;
        return [rmsNorm(queries, ofQueries, this.normEps), rmsNorm(keys, ofKeys, this.normEps), values];
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
    const rotation = conventions.rotation(shape.headDim, config);
    return new SelfAttention(attentionWeights(shape, weight), shape, rotation, config.normEps);
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
