/**
 * `config.json` of flash-linear-attention's YOCO (fla/models/yoco/configuration_yoco.py, version 0.6), to and from ours. Fields that
 * a file lacks have the defaults of that class.
 */
import * as v from 'valibot';
import { RunError, UsageError } from '../../errors.js';
import { readJsonAs } from '../../files/json.js';
import { architectureName } from '../../model/config.js';
import type { ModelConfig, YocoConfig } from '../../model/config.js';
import { quote } from '../files.js';
import { configFrom } from './config-from.js';

type Fields = Readonly<Record<string, unknown>>;

const number = (value: number) => v.optional(v.number(), value);
const flag = (value: boolean) => v.optional(v.boolean(), value);
const frequencies = v.optional(v.picklist(['fla', 'yoco']), 'fla');

const SELF = v.object({
  type: v.optional(v.picklist(['gated_deltanet', 'gated_retention', 'swa']), 'gated_deltanet'),
  use_gate: flag(true),
  expand_v: number(2),
  use_short_conv: flag(true),
  allow_neg_eigval: flag(false),
  conv_size: number(4),
  head_dim: number(256),
  num_heads: number(6),
  num_v_heads: v.nullish(v.number()),
  window_size: v.nullish(v.number()),
  qkv_bias: flag(false),
  rope_theta: number(10000),
  rope_inv_freq: frequencies,
  gate_logit_normalizer: number(16),
});
const CROSS = v.object({
  num_heads: number(32),
  num_kv_heads: v.nullish(v.number()),
  qkv_bias: flag(false),
  qk_norm: flag(false),
  rope_theta: number(10000),
  rope_inv_freq: frequencies,
});
const CONFIG = v.object({
  hidden_size: number(2048),
  num_self_decoder_layers: number(10),
  num_hidden_layers: number(21),
  hidden_ratio: v.nullish(v.number(), 4),
  intermediate_size: v.nullish(v.number()),
  hidden_act: v.optional(v.string(), 'swish'),
  vocab_size: number(32000),
  norm_eps: number(1e-6),
  tie_word_embeddings: flag(false),
  attnres_block_size: v.nullish(v.number(), null),
  max_position_embeddings: v.nullish(v.number(), null),
  self_decoder_attn: v.nullish(SELF, {}),
  cross_decoder_attn: v.nullish(CROSS, {}),
});
type FlaConfig = v.InferOutput<typeof CONFIG>;

const KINDS = {
  gated_retention: 'gated-retention',
  gated_deltanet: 'gated-delta-net',
  swa: 'sliding-window',
} as const;

/** What fla takes where no width is given (fla/modules/mlp.py): 2/3 of `hidden_ratio` widths, rounded up to a multiple of 256. */
function feedForwardWidth({
  hidden_size: width,
  hidden_ratio: ratio,
  intermediate_size: given,
}: FlaConfig): number {
  return given ?? 256 * Math.ceil(Math.trunc((width * ratio * 2) / 3) / 256);
}

/**
 * The base θ of our frequencies θ^(-i / (D/2 - 1)) that are those of a part; null where a head is one pair, whose frequency
 * is 1 whatever the base. `fla` has b^(-2i / D), which are the same with θ = b^(1 - 2/D).
 */
function baseOf(base: number, inverse: 'fla' | 'yoco', headDim: number): number | null {
  if (headDim === 2) return null;
  return inverse === 'yoco' ? base : base ** (1 - 2 / headDim);
}

/** Bases that differ by rounding only, as those do that were written by `selfFields`. */
const isSame = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-12 * Math.abs(b);

/** @throws RunError where self- and cross-decoder have different frequencies */
function ropeTheta(file: string, fields: FlaConfig): number {
  const { hidden_size: dim, self_decoder_attn: self, cross_decoder_attn: cross } = fields;
  const inCross = baseOf(cross.rope_theta, cross.rope_inv_freq, dim / cross.num_heads);
  const selfInverse = self.type === 'swa' ? 'fla' : self.rope_inv_freq;
  const inSelf =
    self.type === 'gated_deltanet' ? null : baseOf(self.rope_theta, selfInverse, dim / self.num_heads);
  if (inCross !== null && inSelf !== null && !isSame(inSelf, inCross))
    throw new RunError(
      `${file}: the self-decoder rotates with θ ${self.rope_theta} (${selfInverse}) and heads of ${dim / self.num_heads}, the ` +
        `cross-decoder with θ ${cross.rope_theta} (${cross.rope_inv_freq}) and heads of ${dim / cross.num_heads}: these are ` +
        `different frequencies, and YOCO here has one θ (rope_inv_freq 'yoco' in both, with one rope_theta)`,
    );
  return inCross ?? inSelf ?? cross.rope_theta;
}

/** Refuses what the computation here does not have. */
function requireKnown(file: string, fields: FlaConfig): void {
  const { self_decoder_attn: self, cross_decoder_attn: cross } = fields;
  const requireIs = (name: string, found: unknown, expected: unknown): void => {
    if (found === expected) return;
    throw new RunError(
      `${file}: ${name} is ${JSON.stringify(found)}, which YOCO here does not have (only ${JSON.stringify(expected)})`,
    );
  };
  requireIs('hidden_act', fields.hidden_act, 'swish');
  requireIs('attnres_block_size', fields.attnres_block_size, null);
  requireIs('cross_decoder_attn.qkv_bias', cross.qkv_bias, false);
  requireIs('cross_decoder_attn.qk_norm', cross.qk_norm, false);
  if (self.type === 'gated_retention') {
    requireIs('self_decoder_attn.gate_logit_normalizer', self.gate_logit_normalizer, 16);
    return;
  }
  requireIs('self_decoder_attn.num_v_heads', self.num_v_heads ?? self.num_heads, self.num_heads);
  if (self.type === 'swa') {
    requireIs('self_decoder_attn.qkv_bias', self.qkv_bias, false);
    return;
  }
  requireIs('self_decoder_attn.use_gate', self.use_gate, true);
  requireIs('self_decoder_attn.use_short_conv', self.use_short_conv, true);
  requireIs('self_decoder_attn.allow_neg_eigval', self.allow_neg_eigval, false);
}

function selfInput({ self_decoder_attn: self }: FlaConfig): Fields {
  const common = { selfDecoder: KINDS[self.type], selfHeads: self.num_heads };
  if (self.type === 'swa') return { ...common, slidingWindow: self.window_size };
  if (self.type === 'gated_retention') return common;
  const { head_dim: keys, expand_v: times, conv_size: convKernel } = self;
  return { ...common, deltaKeyDim: keys, deltaValueDim: Math.trunc(keys * times), convKernel };
}

/** What ours are called in the file, for messages. */
const NAMES = {
  dim: 'hidden_size',
  layers: 'num_hidden_layers',
  selfLayers: 'num_self_decoder_layers',
  hiddenDim: 'intermediate_size',
  heads: 'cross_decoder_attn.num_heads',
  kvHeads: 'cross_decoder_attn.num_kv_heads',
  selfHeads: 'self_decoder_attn.num_heads',
  slidingWindow: 'self_decoder_attn.window_size',
  deltaKeyDim: 'self_decoder_attn.head_dim',
  deltaValueDim: 'self_decoder_attn.head_dim times expand_v',
  convKernel: 'self_decoder_attn.conv_size',
  vocabSize: 'vocab_size',
  normEps: 'norm_eps',
};

/** @throws RunError naming file and field where the model is none of ours */
export function readFlaConfig(file: string): { config: YocoConfig; context: number | null } {
  const fields = readJsonAs(file, CONFIG);
  requireKnown(file, fields);
  const { cross_decoder_attn: cross, max_position_embeddings: context } = fields;
  const input = {
    architecture: 'yoco',
    dim: fields.hidden_size,
    layers: fields.num_hidden_layers,
    selfLayers: fields.num_self_decoder_layers,
    hiddenDim: feedForwardWidth(fields),
    heads: cross.num_heads,
    kvHeads: cross.num_kv_heads ?? cross.num_heads,
    vocabSize: fields.vocab_size,
    ropeTheta: ropeTheta(file, fields),
    normEps: fields.norm_eps,
    tieEmbeddings: fields.tie_word_embeddings,
    ...selfInput(fields),
  };
  return { config: configFrom(file, input, NAMES) as YocoConfig, context };
}

function refuse(what: string): never {
  throw new UsageError(`flash-linear-attention has no ${what}: use --to yoco`);
}

/** `self_decoder_attn`. Its window attention knows the frequencies of `fla` only. */
function selfFields(config: YocoConfig): Fields {
  const { selfDecoder, dim, ropeTheta: theta } = config;
  const common = { num_heads: config.selfHeads, rope_theta: theta, rope_inv_freq: 'yoco' };
  if (selfDecoder === 'gated-retention')
    return { type: 'gated_retention', ...common, gate_logit_normalizer: 16 };
  if (selfDecoder === 'sliding-window') {
    const width = dim / config.selfHeads;
    const base = width === 2 ? theta : theta ** (width / (width - 2));
    return { type: 'swa', num_heads: config.selfHeads, rope_theta: base, window_size: config.slidingWindow };
  }
  if (selfDecoder !== 'gated-delta-net') refuse(`self-decoder '${selfDecoder}'`);
  const { deltaKeyDim: keys, deltaValueDim: values, convKernel } = config as YocoConfig & DeltaFields;
  const expand = values / keys;
  if (Math.trunc(keys * expand) !== values)
    refuse(`factor expand_v that makes ${values} of ${keys} (deltaValueDim, deltaKeyDim)`);
  return { type: 'gated_deltanet', ...common, head_dim: keys, expand_v: expand, conv_size: convKernel };
}

/** Of the mixer in a YOCO whose self-decoder is a Gated DeltaNet. */
interface DeltaFields {
  readonly deltaKeyDim: number;
  readonly deltaValueDim: number;
  readonly convKernel: number;
}

/** The fields of `config.json`. @throws UsageError for a model that flash-linear-attention's YOCO cannot be */
export function flaConfig(config: ModelConfig, context: number | null, dtype: string): Fields {
  if (config.architecture !== 'yoco') refuse(`YOCO of the layout ${quote(architectureName(config))}`);
  if (config.crossPositions !== 'rotary') refuse(`crossPositions '${config.crossPositions}'`);
  return {
    architectures: ['YOCOForCausalLM'],
    model_type: 'yoco',
    hidden_size: config.dim,
    num_hidden_layers: config.layers,
    num_self_decoder_layers: config.selfLayers,
    intermediate_size: config.hiddenDim,
    hidden_act: 'swish',
    vocab_size: config.vocabSize,
    norm_eps: config.normEps,
    tie_word_embeddings: config.tieEmbeddings,
    ...(context === null ? {} : { max_position_embeddings: context }),
    self_decoder_attn: selfFields(config),
    cross_decoder_attn: {
      num_heads: config.heads,
      num_kv_heads: config.kvHeads,
      qkv_bias: false,
      qk_norm: false,
      rope_theta: config.ropeTheta,
      rope_inv_freq: 'yoco',
    },
    torch_dtype: dtype,
  };
}
