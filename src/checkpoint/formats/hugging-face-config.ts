/** `config.json` of Hugging Face Llama directories, to and from our Transformer configuration. */
import { RunError, UsageError } from '../../errors.js';
import { architectureName } from '../../model/config.js';
import type { ModelConfig, RopeScaling, TransformerConfig } from '../../model/config.js';
import { quote } from '../files.js';
import { configFrom } from './config-from.js';

type Fields = Readonly<Record<string, unknown>>;

/** Architectures that are the Transformer baseline under another name. */
const MODEL_TYPES = ['llama', 'mistral'] as const;

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function requireSame(file: string, fields: Fields, name: string, ...allowed: unknown[]): void {
  if (fields[name] === undefined || fields[name] === null || allowed.includes(fields[name])) return;
  throw new RunError(
    `${file}: ${name} is ${JSON.stringify(fields[name])}, which the Transformer here does not have (only ${allowed.map(String).join(', ')})`,
  );
}

/** Factors by which variants of Llama scale their activations, and the values that change nothing. */
const NEUTRAL: readonly (readonly [string, unknown])[] = [
  ['partial_rotary_factor', 1],
  ['embedding_multiplier', 1],
  ['residual_multiplier', 1],
  ['logits_scaling', 1],
];
/** What changes the computation in ways that the Transformer here does not have. */
const ABSENT = ['attn_logit_softcapping', 'final_logit_softcapping', 'quantization_config'] as const;

/** What transformers' MistralConfig takes where its file lacks a field; LlamaConfig has no window, and all heads. */
const MISTRAL_DEFAULTS: Fields = { sliding_window: 4096, num_key_value_heads: 8 };

/** A field that is null is set to nothing; one that is absent has the default of its architecture. */
function withDefault(fields: Fields, name: string): unknown {
  return fields.model_type === 'mistral' && !(name in fields) ? MISTRAL_DEFAULTS[name] : fields[name];
}

function requireAbsent(file: string, fields: Fields, name: string): void {
  if (fields[name] === undefined || fields[name] === null) return;
  throw new RunError(`${file}: ${name} is set, which the Transformer here does not have`);
}

/** `layer_types` may repeat what the other fields say: all layers alike, with or without a window. */
function requireOneLayerType(file: string, fields: Fields): void {
  const { layer_types: types } = fields;
  if (types === undefined || types === null) return;
  const windowed = fields.model_type === 'mistral' && withDefault(fields, 'sliding_window') !== null;
  const expected = windowed ? 'sliding_attention' : 'full_attention';
  if (Array.isArray(types) && types.every((type) => type === expected)) return;
  throw new RunError(
    `${file}: layer_types are not all ${expected}, which the Transformer here does not have`,
  );
}

/** `rope_scaling` (or, since version 5 of transformers, `rope_parameters`): null where frequencies are as usual. */
function ropeScaling(file: string, scaling: Fields): Fields | null {
  const given = scaling.rope_type ?? scaling.type;
  const type = given ?? 'default';
  if (typeof given !== 'string' && typeof scaling.factor === 'number') {
    throw new RunError(`${file}: its rope_scaling has a factor but no type: add rope_type, linear or llama3`);
  }
  if (type === 'default') return null;
  if (type === 'linear') return { type, factor: scaling.factor };
  if (type === 'llama3') {
    const fields = ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'];
    const absent = fields.find((name) => typeof scaling[name] !== 'number');
    if (absent !== undefined)
      throw new RunError(`${file}: its rope_scaling of type llama3 has no number ${absent}`);
    return {
      type,
      factor: scaling.factor,
      lowFrequencyFactor: scaling.low_freq_factor,
      highFrequencyFactor: scaling.high_freq_factor,
      originalContext: scaling.original_max_position_embeddings,
    };
  }
  throw new RunError(`${file}: rope_scaling of type ${JSON.stringify(type)} is not known (linear, llama3)`);
}

/** Our configuration. @throws RunError naming file and field where the model is no plain Llama */
export function readHuggingFaceConfig(file: string, fields: Fields): TransformerConfig {
  requireSame(file, fields, 'model_type', ...MODEL_TYPES);
  if (typeof fields.model_type !== 'string') {
    throw new RunError(
      `${file}: it has no model_type, which says what the model computes: add llama or mistral`,
    );
  }
  requireSame(file, fields, 'hidden_act', 'silu');
  for (const name of ['attention_bias', 'mlp_bias', 'use_qk_norm', 'qk_norm']) {
    requireSame(file, fields, name, false);
  }
  for (const [name, neutral] of NEUTRAL) requireSame(file, fields, name, neutral);
  for (const name of ABSENT) requireAbsent(file, fields, name);
  requireOneLayerType(file, fields);
  const rope = [fields.rope_parameters, fields.rope_scaling].find(isObject) ?? {};
  const config = configFrom(file, {
    architecture: 'transformer',
    dim: fields.hidden_size,
    layers: fields.num_hidden_layers,
    hiddenDim: fields.intermediate_size,
    heads: fields.num_attention_heads,
    kvHeads: withDefault(fields, 'num_key_value_heads'),
    headDim: fields.head_dim,
    vocabSize: fields.vocab_size,
    ropeTheta: rope.rope_theta ?? fields.rope_theta ?? 10000,
    normEps: fields.rms_norm_eps ?? 1e-6,
    // Llama configurations sometimes carry the field without using it.
    slidingWindow: fields.model_type === 'mistral' ? withDefault(fields, 'sliding_window') : null,
    tieEmbeddings: fields.tie_word_embeddings ?? false,
    ropeScaling: ropeScaling(file, rope),
  });
  if (config.architecture !== 'transformer') throw new RunError(`${file}: not a Transformer`);
  return config;
}

function scalingFields(scaling: RopeScaling | null): Fields | null {
  if (scaling === null) return null;
  const { type, factor } = scaling;
  if (scaling.type === 'linear') return { rope_type: type, type, factor };
  return {
    rope_type: type,
    factor,
    low_freq_factor: scaling.lowFrequencyFactor,
    high_freq_factor: scaling.highFrequencyFactor,
    original_max_position_embeddings: scaling.originalContext,
  };
}

/**
 * The fields of `config.json` for a Transformer; a sliding window makes it a Mistral.
 * @throws UsageError for YOCO, which Hugging Face's library does not have
 */
export function huggingFaceConfig(config: ModelConfig, context: number | null, dtype: string): Fields {
  if (config.architecture !== 'transformer') {
    throw new UsageError(
      config.architecture === 'yoco'
        ? 'Hugging Face has no YOCO architecture: use --to yoco or --to official'
        : `Hugging Face has no architecture ${quote(architectureName(config))}: use --to yoco`,
    );
  }
  const windowed = config.slidingWindow !== null;
  return {
    architectures: [windowed ? 'MistralForCausalLM' : 'LlamaForCausalLM'],
    model_type: windowed ? 'mistral' : 'llama',
    hidden_act: 'silu',
    hidden_size: config.dim,
    intermediate_size: config.hiddenDim,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    vocab_size: config.vocabSize,
    // Left out where unknown: a number would be taken for what the model was trained on.
    ...(context === null ? {} : { max_position_embeddings: context }),
    rms_norm_eps: config.normEps,
    rope_theta: config.ropeTheta,
    rope_scaling: scalingFields(config.ropeScaling),
    ...(windowed ? { sliding_window: config.slidingWindow } : {}),
    tie_word_embeddings: config.tieEmbeddings,
    attention_bias: false,
    mlp_bias: false,
    torch_dtype: dtype,
  };
}
