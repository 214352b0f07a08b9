/** Which tensors a configuration has, under the names of the official checkpoints and in their order. */
import { UsageError } from '../errors.js';
import { type ModelConfig, layoutOf } from './config.js';
import { type Conventions, conventionsOf } from './conventions.js';
import {
  INITIAL_VALUES,
  type Initialiser,
  type InitialValues,
  matrix,
  norm,
  type ParameterInput,
  type ParameterRole,
} from './initial-values.js';
import { suitsFloat8 } from '../ops/linear/compute-type.js';
import type { Layout, LayoutPart } from './layouts.js';
import type { LayerWeights } from './layers/layer.js';
import { headDim } from './config.js';
import { mixer } from './mixers/index.js';
import type { MixerName } from './mixers/list.js';

export interface ParameterSpec {
  readonly name: string;
  /** Matrices are [out, in]. */
  readonly shape: readonly number[];
  readonly initialiser: Initialiser;
  /** Whether it can be kept in float8 at inference: a projection of a layer or of `memory`, of extents that suit. */
  readonly suitsFloat8: boolean;
}

export function elements(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/**
 * What the names of every part's parameters begin with. With YOCO's conventions and one `memory`, layers before it are the
 * self-decoder and those after it the cross-decoder, as in the official code; otherwise layers are numbered through.
 */
export function partPrefixes({ parts }: Layout, { name }: Conventions): string[] {
  const memory = parts.findIndex(({ word }) => word === 'memory');
  const isSingle = parts.filter(({ word }) => word === 'memory').length === 1;
  const before = parts.slice(0, memory).filter(({ layer }) => layer !== null).length;
  let memories = 0;
  return parts.map(({ word, layer }, i) => {
    if (name === 'yoco' && isSingle) {
      if (layer === null) return 'cross_decoder';
      return i < memory ? `self_decoder.layers.${layer}` : `cross_decoder.layers.${layer - before}`;
    }
    if (layer !== null) return `layers.${layer}`;
    return word === 'memory' ? `memories.${memories++}` : '';
  });
}

/** The projection of `memory`: its parameters by what they are. */
export const MEMORY_NAMES = { key: 'k_proj', value: 'v_proj', norm: 'kv_layer_norm' } as const;

/** Of matrices that only ops for products with weights read. */
const PROJECTIONS: readonly ParameterRole[] = ['input', 'output'];

/** All parameters in the order of the official state dictionaries. @param initial how they start */
export function parameterSpecs(config: ModelConfig, initial: InitialValues = 'official'): ParameterSpec[] {
  const conventions = conventionsOf(config);
  const { dim, layers, tieEmbeddings } = config;
  const recipe = INITIAL_VALUES[initial];
  const context = { dim, layers, tieEmbeddings, embeddingScale: conventions.embeddingScale(dim) };
  return parameterInputs(config, conventions).map((parameter) => ({
    name: parameter.isBare ? parameter.name : `${parameter.name}.weight`,
    shape: parameter.shape,
    initialiser: recipe(parameter, context),
    suitsFloat8: PROJECTIONS.includes(parameter.role) && suitsFloat8(parameter),
  }));
}

function parameterInputs(config: ModelConfig, conventions: Conventions): ParameterInput[] {
  const { dim, vocabSize, tieEmbeddings } = config;
  const layout = layoutOf(config);
  const prefixes = partPrefixes(layout, conventions);
  const embedding: ParameterInput = {
    name: conventions.embedding,
    shape: [vocabSize, dim],
    role: 'embedding',
    official: { kind: 'normal', deviation: dim ** -0.5 },
  };
  const head = tieEmbeddings ? [] : [matrix(conventions.head, vocabSize, dim, 'head')];
  const last = norm(conventions.norm, dim);
  const parts = layout.parts.flatMap((part, i) =>
    partInputs(part, layout, config, conventions).map((parameter) => ({
      ...parameter,
      name: `${prefixes[i] ?? ''}.${parameter.name}`,
    })),
  );
  return conventions.normFirst ? [embedding, last, ...head, ...parts] : [embedding, ...head, ...parts, last];
}

function partInputs(
  part: LayoutPart,
  layout: Layout,
  config: ModelConfig,
  conventions: Conventions,
): ParameterInput[] {
  const { word } = part;
  if (word === 'embeddings') return [];
  if (word === 'memory') return memoryInputs(config);
  return layerInputs(word, readWidth(part, layout, config), config, conventions);
}

/** Width of the readout that a part reads; 0 where it reads none. */
export function readWidth({ readsOut }: LayoutPart, { parts }: Layout, config: ModelConfig): number {
  if (readsOut === null) return 0;
  return mixer(parts[readsOut]?.word as MixerName).readoutWidth?.(config) ?? 0;
}

function memoryInputs(config: ModelConfig): ParameterInput[] {
  const { dim, kvHeads } = config;
  const width = kvHeads * headDim(config);
  const { key, value } = MEMORY_NAMES;
  return [matrix(key, width, dim), matrix(value, width, dim), norm(MEMORY_NAMES.norm, dim)];
}

function layerInputs(
  name: MixerName,
  readWidth: number,
  config: ModelConfig,
  conventions: Conventions,
): ParameterInput[] {
  const { dim, hiddenDim } = config;
  const { layer } = conventions;
  const rest: Record<keyof LayerWeights, ParameterInput> = {
    mixerNorm: norm(layer.mixerNorm, dim),
    activated: matrix(layer.activated, hiddenDim, dim),
    gate: matrix(layer.gate, hiddenDim, dim),
    out: matrix(layer.out, dim, hiddenDim, 'output'),
    feedForwardNorm: norm(layer.feedForwardNorm, dim),
  };
  const own = mixer(name)
    .parameters(config, readWidth)
    .map((parameter) => ({ ...parameter, name: conventions.mixer(parameter.name) }));
  const order = Object.keys(layer) as (keyof LayerWeights)[];
  return [...own, ...order.map((part) => rest[part])];
}

/** @throws UsageError where a model has no weight that can be kept in float8 */
export function requireFloat8(specs: readonly ParameterSpec[]): void {
  if (specs.some(({ suitsFloat8 }) => suitsFloat8)) return;
  throw new UsageError(
    'no weight of this model can be kept in float8, whose extents have to be multiples of 16: leave out --compute',
  );
}
