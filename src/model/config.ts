/** What a model is: every number that determines its shape and its mathematics, checked at construction. */
import { UsageError } from '../errors.js';
import { readFields, type FieldReader } from './config-fields.js';

export type Architecture = 'yoco' | 'transformer';
export type SelfDecoderKind = 'gated-retention' | 'sliding-window';
export type CrossPositions = 'rotary' | 'none';

export const ARCHITECTURES: readonly Architecture[] = ['yoco', 'transformer'];
export const SELF_DECODERS: readonly SelfDecoderKind[] = ['gated-retention', 'sliding-window'];
export const CROSS_POSITIONS: readonly CrossPositions[] = ['rotary', 'none'];

export interface YocoConfig {
  readonly architecture: 'yoco';
  /** Width of the residual stream. */
  readonly dim: number;
  /** Layers of both decoders together. */
  readonly layers: number;
  /** Width of the SwiGLU feed-forward network. */
  readonly hiddenDim: number;
  /** Heads of the self-decoder's mixers; their width is dim / selfHeads. */
  readonly selfHeads: number;
  /** Query heads of the cross-decoder; their width is dim / heads. */
  readonly heads: number;
  /** Heads of the one global K/V cache; query head h reads K/V head floor(h / (heads / kvHeads)). */
  readonly kvHeads: number;
  readonly vocabSize: number;
  readonly selfDecoder: SelfDecoderKind;
  /** Positions a sliding-window query sees, itself included; null for gated retention. */
  readonly slidingWindow: number | null;
  /** Layers of the self-decoder; the other `layers - selfLayers` are the cross-decoder. The paper: half. */
  readonly selfLayers: number;
  readonly ropeTheta: number;
  readonly normEps: number;
  /** `none` leaves queries and keys of the cross-decoder unrotated: the self-decoder supplies order. */
  readonly crossPositions: CrossPositions;
}

/** Scaling of rotary frequencies by which Llama checkpoints stretch their context (Hugging Face `rope_scaling`). */
export type RopeScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalContext: number;
    };

export interface TransformerConfig {
  readonly architecture: 'transformer';
  readonly dim: number;
  readonly layers: number;
  readonly hiddenDim: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** Width of a head; dim / heads unless a checkpoint says otherwise. */
  readonly headDim: number;
  readonly vocabSize: number;
  readonly ropeTheta: number;
  readonly normEps: number;
  readonly slidingWindow: number | null;
  /** One matrix serves as embedding and output head. */
  readonly tieEmbeddings: boolean;
  readonly ropeScaling: RopeScaling | null;
}

export type ModelConfig = YocoConfig | TransformerConfig;

/** Fields of a configuration as a person writes them (a JSON file, overrides of a preset): most have defaults. */
export type ConfigInput = Partial<Omit<YocoConfig, 'architecture'>> &
  Partial<Omit<TransformerConfig, 'architecture'>> & { readonly architecture?: Architecture };

/**
 * Completes and checks a configuration. Required: dim, layers, hiddenDim, heads, vocabSize. Defaults: architecture
 * `yoco`, kvHeads and selfHeads = heads, selfLayers = layers / 2, gated retention (sliding window if a
 * `slidingWindow` is given), rotary cross-decoder, ropeTheta 10,000, normEps 1e-5, headDim = dim / heads.
 * @throws UsageError naming the field and what it may be
 */
export function createConfig(input: ConfigInput | Readonly<Record<string, unknown>>): ModelConfig {
  const fields = readFields(input);
  const architecture = fields.choice('architecture', ARCHITECTURES, 'yoco');
  const config = architecture === 'yoco' ? readYoco(fields) : readTransformer(fields);
  fields.rejectUnknown(Object.keys(config));
  return Object.freeze(config);
}

function readShape(fields: FieldReader) {
  const dim = fields.positiveInteger('dim');
  const heads = fields.positiveInteger('heads');
  const kvHeads = fields.positiveInteger('kvHeads', heads);
  if (heads % kvHeads !== 0) {
    throw new UsageError(`configuration: heads (${heads}) must be a multiple of kvHeads (${kvHeads})`);
  }
  return {
    dim,
    layers: fields.positiveInteger('layers'),
    hiddenDim: fields.positiveInteger('hiddenDim'),
    heads,
    kvHeads,
    vocabSize: fields.positiveInteger('vocabSize'),
    ropeTheta: fields.positiveNumber('ropeTheta', 10000),
    normEps: fields.positiveNumber('normEps', 1e-5),
    slidingWindow: fields.has('slidingWindow') ? fields.positiveInteger('slidingWindow') : null,
  };
}

function readYoco(fields: FieldReader): YocoConfig {
  const shape = readShape(fields);
  const { dim, layers, heads, slidingWindow } = shape;
  const selfHeads = fields.positiveInteger('selfHeads', heads);
  requireEvenHead('heads', dim, heads);
  requireEvenHead('selfHeads', dim, selfHeads);
  const selfDecoder = fields.choice(
    'selfDecoder',
    SELF_DECODERS,
    slidingWindow === null ? 'gated-retention' : 'sliding-window',
  );
  if ((selfDecoder === 'sliding-window') !== (slidingWindow !== null)) {
    const expected = selfDecoder === 'sliding-window' ? 'a number of positions' : 'null';
    throw new UsageError(`configuration: slidingWindow must be ${expected} for selfDecoder '${selfDecoder}'`);
  }
  if (!fields.has('selfLayers') && layers % 2 !== 0) {
    throw new UsageError(
      `configuration: layers must be even (found ${layers}) unless selfLayers says how to divide them`,
    );
  }
  const selfLayers = fields.positiveInteger('selfLayers', layers / 2);
  if (selfLayers >= layers) {
    throw new UsageError(
      `configuration: selfLayers must be between 1 and ${layers - 1} (layers - 1), found ${selfLayers}`,
    );
  }
  const crossPositions = fields.choice('crossPositions', CROSS_POSITIONS, 'rotary');
  return { architecture: 'yoco', ...shape, selfHeads, selfDecoder, selfLayers, crossPositions };
}

function readTransformer(fields: FieldReader): TransformerConfig {
  const shape = readShape(fields);
  const { dim, heads } = shape;
  if (!fields.has('headDim')) requireEvenHead('heads', dim, heads);
  const headDim = fields.positiveInteger('headDim', dim / heads);
  if (headDim % 2 !== 0) throw new UsageError(`configuration: headDim must be even, found ${headDim}`);
  const tieEmbeddings = fields.boolean('tieEmbeddings', false);
  return { architecture: 'transformer', ...shape, headDim, tieEmbeddings, ropeScaling: readScaling(fields) };
}

function requireEvenHead(name: string, dim: number, heads: number): void {
  if (dim % heads === 0 && (dim / heads) % 2 === 0) return;
  throw new UsageError(
    `configuration: ${name} (${heads}) must divide dim (${dim}) into heads of an even width (rotary pairs)`,
  );
}

function readScaling(fields: FieldReader): RopeScaling | null {
  if (!fields.has('ropeScaling')) return null;
  const scaling = fields.object('ropeScaling');
  const type = scaling.choice('type', ['linear', 'llama3'] as const);
  const factor = scaling.positiveNumber('factor');
  const result: RopeScaling =
    type === 'linear'
      ? { type, factor }
      : {
          type,
          factor,
          lowFrequencyFactor: scaling.positiveNumber('lowFrequencyFactor', 1),
          highFrequencyFactor: scaling.positiveNumber('highFrequencyFactor', 4),
          originalContext: scaling.positiveInteger('originalContext', 8192),
        };
  scaling.rejectUnknown(Object.keys(result));
  if (result.type === 'llama3' && result.highFrequencyFactor <= result.lowFrequencyFactor) {
    throw new UsageError('configuration: ropeScaling.highFrequencyFactor must exceed lowFrequencyFactor');
  }
  return result;
}

/** Width of a query, key or value head that reads the K/V cache. */
export function headDim(config: ModelConfig): number {
  return config.architecture === 'yoco' ? config.dim / config.heads : config.headDim;
}

/** Width of a head of the self-decoder. */
export function selfHeadDim(config: YocoConfig): number {
  return config.dim / config.selfHeads;
}
