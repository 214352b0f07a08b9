/** What a model is: every number that determines its shape and its mathematics, checked at construction. */
import { UsageError } from '../errors.js';
import { readFields, type FieldReader } from './config-fields.js';
import { conventionsOf } from './conventions.js';
import { formatLayout, parseLayout } from './layout-grammar.js';
import {
  ARCHITECTURES,
  LAYOUTS,
  type Architecture,
  type Layout,
  type LayoutDefinition,
  type LayoutNumbers,
  type LayoutWord,
  resolveLayout,
} from './layouts.js';
import { HEAD_OPTIONS, type HeadOption } from './mixers/attention.js';
import type { CrossPositions } from './mixers/cross.js';
import { mixer, type MixerFields } from './mixers/index.js';
import { SELF_DECODERS, type MixerName, type SelfDecoderKind } from './mixers/list.js';
import type { Shape } from './mixers/mixer.js';
import { readSelfHeads, requireEvenHead, type SelfHeadFields } from './mixers/self-heads.js';
import type { RopeScaling } from './rope-scaling.js';

export type { Architecture } from './layouts.js';
export type { SelfDecoderKind } from './mixers/list.js';
export type { RopeScaling } from './rope-scaling.js';

interface CommonConfig extends Shape {
  /** One matrix serves as embedding and output head. */
  readonly tieEmbeddings: boolean;
}

export interface YocoConfig extends CommonConfig {
  readonly architecture: 'yoco';
  /** Heads of the self-decoder's mixers; their width is dim / selfHeads. */
  readonly selfHeads: number;
  readonly selfDecoder: SelfDecoderKind;
  /** Layers of the self-decoder; the other `layers - selfLayers` are the cross-decoder. The paper: half. */
  readonly selfLayers: number;
  readonly crossPositions: CrossPositions;
}

export interface TransformerConfig extends CommonConfig {
  readonly architecture: 'transformer';
  /** Width of a head; dim / heads unless a checkpoint says otherwise. */
  readonly headDim: number;
  readonly ropeScaling: RopeScaling | null;
  /** Queries, keys and values have a bias, as in Qwen 2; absent for false. */
  readonly attentionBias?: true;
  /** Heads of queries and keys are normed before they are rotated, as in Qwen 3; absent for false. */
  readonly qkNorm?: true;
}

/** Any other layout: it has the fields of the mixers in it, and those that its definition takes. */
export interface LayoutConfig extends CommonConfig, MixerFields {
  readonly architecture: Exclude<Architecture, 'yoco' | 'transformer'>;
  readonly selfDecoder?: SelfDecoderKind;
  readonly selfLayers?: number;
  /** The words of a layout without a name; see `layout-grammar.ts`. */
  readonly layout?: string;
}

export type ModelConfig = YocoConfig | TransformerConfig | LayoutConfig;

/** Fields of a configuration as a person writes them (a JSON file, overrides of a preset): most have defaults. */
export type ConfigInput = Partial<Omit<CommonConfig, 'architecture'>> &
  Partial<Omit<YocoConfig, keyof CommonConfig>> &
  Partial<Omit<TransformerConfig, keyof CommonConfig | HeadOption>> &
  Omit<MixerFields, HeadOption> &
  Partial<Record<HeadOption, boolean>> & { readonly architecture?: Architecture; readonly layout?: string };

/**
 * Completes and checks a configuration. Required: dim, layers, hiddenDim, heads, vocabSize. Defaults: architecture
 * `yoco`, kvHeads and selfHeads = heads, selfLayers = layers / 2, gated retention (sliding window if a
 * `slidingWindow` is given), rotary cross-decoder, ropeTheta 10,000, normEps 1e-5, headDim = dim / heads.
 *
 * `layout` is the name of a layout, which is the same as `architecture`, or its words; then `layers` is their number.
 * @throws UsageError naming the field and what it may be
 */
export function createConfig(input: ConfigInput | Readonly<Record<string, unknown>>): ModelConfig {
  const fields = readFields(input);
  const architecture = readArchitecture(fields);
  const definition: LayoutDefinition = LAYOUTS[architecture];
  const layout = definition.takes.includes('layout') ? fields.text('layout') : undefined;
  const shape = readShape(fields, architecture, layout);
  const options = { ...readOptions(fields, definition, shape), ...(layout !== undefined && { layout }) };
  const words = wordsOf(definition, { ...shape, ...options });
  resolveLayout(words);
  const own = readMixers(fields, shape, words);
  const tieEmbeddings = fields.boolean('tieEmbeddings', false);
  const config = { ...shape, ...own, ...options, tieEmbeddings } as ModelConfig;
  const absent = architecture === 'transformer' ? HEAD_OPTIONS : [];
  fields.rejectUnknown([...Object.keys(config), 'layout', ...absent]);
  return Object.freeze(config);
}

function readArchitecture(fields: FieldReader): Architecture {
  if (!fields.has('layout')) return fields.choice('architecture', ARCHITECTURES, 'yoco');
  const layout = fields.text('layout');
  const name = ARCHITECTURES.find((candidate) => candidate === layout) ?? 'custom';
  if (!fields.has('architecture') || fields.choice('architecture', ARCHITECTURES) === name) return name;
  throw new UsageError(`configuration: layout '${layout}' contradicts the architecture: give one of them`);
}

function readShape(fields: FieldReader, architecture: Architecture, layout: string | undefined): Shape {
  const dim = fields.positiveInteger('dim');
  const heads = fields.positiveInteger('heads');
  const kvHeads = readKeyHeads(fields, architecture, heads);
  if (heads % kvHeads !== 0) {
    throw new UsageError(`configuration: heads (${heads}) must be a multiple of kvHeads (${kvHeads})`);
  }
  if (!fields.has('headDim')) requireEvenHead('heads', dim, heads);
  return {
    architecture,
    dim,
    layers: readLayers(fields, layout),
    hiddenDim: fields.positiveInteger('hiddenDim'),
    heads,
    kvHeads,
    vocabSize: fields.positiveInteger('vocabSize'),
    ropeTheta: fields.positiveNumber('ropeTheta', 10000),
    normEps: fields.positiveNumber('normEps', 1e-5),
    slidingWindow: fields.has('slidingWindow') ? fields.positiveInteger('slidingWindow') : null,
  };
}

function readKeyHeads(fields: FieldReader, architecture: Architecture, heads: number): number {
  const { group }: LayoutDefinition = LAYOUTS[architecture];
  if (typeof group === 'number' && heads % group !== 0) {
    throw new UsageError(
      `configuration: heads must be a multiple of ${group} for '${architecture}', found ${heads}`,
    );
  }
  const named = group === 'all' ? 1 : heads / (group ?? 1);
  const kvHeads = fields.positiveInteger('kvHeads', named);
  if (group === undefined || kvHeads === named) return kvHeads;
  throw new UsageError(
    `configuration: kvHeads must be ${named} for '${architecture}' with ${heads} heads, found ${kvHeads}: leave it out, or take 'transformer'`,
  );
}

/** Far more than any model has; every layer takes a dozen names, so that a number from a file must have an end. */
const MAX_LAYERS = 10_000;

function checkDepth(layers: number): number {
  if (layers <= MAX_LAYERS) return layers;
  throw new UsageError(`configuration: layers must be at most ${MAX_LAYERS}, found ${layers}`);
}

function readLayers(fields: FieldReader, layout: string | undefined): number {
  if (layout === undefined) return checkDepth(fields.positiveInteger('layers'));
  const count = layerCount(parseLayout(layout));
  const layers = fields.positiveInteger('layers', count);
  if (layers === count) return count;
  throw new UsageError(`configuration: layers must be ${count}, as many as the layout has, found ${layers}`);
}

const isMixer = (word: LayoutWord): word is MixerName => word !== 'memory' && word !== 'embeddings';

const layerCount = (words: readonly LayoutWord[]): number => words.filter(isMixer).length;

type Options = Partial<Pick<LayoutNumbers, 'selfDecoder' | 'selfLayers' | 'layout'> & SelfHeadFields>;

/** The fields that the layout takes beside its number of layers. */
function readOptions(
  fields: FieldReader,
  { takes, period, conventions }: LayoutDefinition,
  shape: Shape,
): Options {
  const { layers, slidingWindow } = shape;
  if (layers % period !== 0) {
    throw new UsageError(
      `configuration: layers must be a multiple of ${period} for '${shape.architecture}', found ${layers}`,
    );
  }
  const usual = slidingWindow === null ? 'gated-retention' : 'sliding-window';
  return {
    // Every size of YOCO has it, whether or not the layout has a layer that reads it.
    ...(conventions === 'yoco' && { selfHeads: readSelfHeads(fields, shape) }),
    ...(takes.includes('selfDecoder') && {
      selfDecoder: fields.choice('selfDecoder', SELF_DECODERS, usual),
    }),
    ...(takes.includes('selfLayers') && { selfLayers: readSelfLayers(fields, layers) }),
  };
}

function readSelfLayers(fields: FieldReader, layers: number): number {
  if (!fields.has('selfLayers') && layers % 2 !== 0) {
    throw new UsageError(
      `configuration: layers must be even (found ${layers}) unless selfLayers says how to divide them`,
    );
  }
  const selfLayers = fields.count('selfLayers', layers / 2);
  if (selfLayers < layers) return selfLayers;
  throw new UsageError(
    `configuration: selfLayers must be between 0 and ${layers - 1} (layers - 1), found ${selfLayers}`,
  );
}

/** The fields of the mixers in the layout. */
function readMixers(fields: FieldReader, shape: Shape, words: readonly LayoutWord[]): MixerFields {
  const names = [...new Set(words.filter(isMixer))];
  const own = names.map((name) => mixer(name).fields(fields, shape));
  if (shape.slidingWindow !== null && !names.includes('sliding-window')) {
    throw new UsageError(
      `configuration: slidingWindow must be null where no layer is 'sliding-window' (they are ${names.join(', ')})`,
    );
  }
  return Object.assign({}, ...own) as MixerFields;
}

function wordsOf(
  definition: LayoutDefinition,
  { selfDecoder = 'gated-retention', selfLayers = 0, layout = '', ...shape }: Shape & Options,
): readonly LayoutWord[] {
  const { layers, slidingWindow } = shape;
  return definition.words({ layers, slidingWindow, selfDecoder, selfLayers, layout });
}

/** The words of a configuration's layout. */
export function layoutWords(config: ModelConfig): readonly LayoutWord[] {
  return wordsOf(LAYOUTS[config.architecture], config);
}

/** The layout of a configuration. */
export function layoutOf(config: ModelConfig): Layout {
  return resolveLayout(layoutWords(config));
}

/** What results call the architecture: its name, or the words of a layout without one. */
export function architectureName(config: ModelConfig): string {
  return config.architecture === 'custom' ? formatLayout(layoutWords(config)) : config.architecture;
}

/** The mixer that a layout leaves open; null where it leaves none. */
export function selfDecoderOf(config: ModelConfig): SelfDecoderKind | null {
  return config.architecture === 'transformer' ? null : (config.selfDecoder ?? null);
}

/** Width of a query, key or value head that reads the K/V cache. */
export function headDim(config: ModelConfig): number {
  const isLlama = conventionsOf(config).name === 'llama';
  return (isLlama && 'headDim' in config ? config.headDim : undefined) ?? config.dim / config.heads;
}
