/** `config.json` of Hugging Face directories of Llama and its like, to and from our Transformer configuration. */
import { RunError, UsageError } from '../../errors.js';
import { architectureName } from '../../model/config.js';
import type { ModelConfig, RopeScaling, TransformerConfig } from '../../model/config.js';
import { quote } from '../files.js';
import { configFrom } from './config-from.js';

type Fields = Readonly<Record<string, unknown>>;

/** Architectures that are the Transformer baseline under another name. */
const MODEL_TYPES = ['llama', 'mistral', 'qwen2', 'qwen3'] as const;

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

/** What the classes of transformers take where a file lacks a field; LlamaConfig has no window, and all heads. */
const DEFAULTS: Readonly<Record<string, Fields>> = {
  mistral: { sliding_window: 4096, num_key_value_heads: 8 },
  qwen2: { sliding_window: 4096, num_key_value_heads: 32, max_window_layers: 28 },
  qwen3: { sliding_window: 4096, num_key_value_heads: 32, max_window_layers: 28, head_dim: 128 },
};

/** A field that is null is set to nothing; one that is absent has the default of its architecture. */
function withDefault(fields: Fields, name: string): unknown {
  return name in fields ? fields[name] : DEFAULTS[String(fields.model_type)]?.[name];
}

/**
 * The window of all layers; null for none. Qwen's files have one that does not count unless `use_sliding_window` is true, and
 * then only from layer `max_window_layers` on. Llama's carry the field without using it.
 * @throws RunError where some layers have one and others none
 */
function windowOf(file: string, fields: Fields): unknown {
  const { model_type: type, num_hidden_layers: layers } = fields;
  const window = withDefault(fields, 'sliding_window') ?? null;
  if (type === 'mistral') return window;
  if (type !== 'qwen2' && type !== 'qwen3') return null;
  const first = withDefault(fields, 'max_window_layers');
  if (fields.use_sliding_window !== true || window === null || Number(first) >= Number(layers)) return null;
  if (first === 0) return window;
  throw new RunError(
    `${file}: use_sliding_window with max_window_layers ${String(first)}: only some of the layers have a window, ` +
      `which the Transformer here does not have`,
  );
}

function requireAbsent(file: string, fields: Fields, name: string): void {
  if (fields[name] === undefined || fields[name] === null) return;
  throw new RunError(`${file}: ${name} is set, which the Transformer here does not have`);
}

/** `layer_types` may repeat what the other fields say: all layers alike, with or without a window. */
function requireOneLayerType(file: string, fields: Fields): void {
  const { layer_types: types } = fields;
  if (types === undefined || types === null) return;
  const windowed = windowOf(file, fields) !== null;
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
      `${file}: it has no model_type, which says what the model computes: add ${MODEL_TYPES.join(', ')}`,
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
    headDim: withDefault(fields, 'head_dim'),
    vocabSize: fields.vocab_size,
    ropeTheta: rope.rope_theta ?? fields.rope_theta ?? 10000,
    normEps: fields.rms_norm_eps ?? 1e-6,
    slidingWindow: windowOf(file, fields),
    attentionBias: fields.model_type === 'qwen2',
    qkNorm: fields.model_type === 'qwen3',
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

/** Which of the known architectures a Transformer is. @throws UsageError for none */
function modelType({
  attentionBias,
  qkNorm,
  slidingWindow,
}: TransformerConfig): [type: string, name: string] {
  if (attentionBias && qkNorm) {
    throw new UsageError(
      'Hugging Face has no architecture with both attentionBias and qkNorm: use --to yoco',
    );
  }
  if (attentionBias) return ['qwen2', 'Qwen2'];
  if (qkNorm) return ['qwen3', 'Qwen3'];
  return slidingWindow === null ? ['llama', 'Llama'] : ['mistral', 'Mistral'];
}

/**
 * The fields of `config.json` for a Transformer; a sliding window makes it a Mistral.
 * @throws UsageError for YOCO, which Hugging Face's library does not have
 */
export function huggingFaceConfig(config: ModelConfig, context: number | null, dtype: string): Fields {
  if (config.architecture !== 'transformer') {
    throw new UsageError(
      config.architecture === 'yoco'
        ? 'Hugging Face has no YOCO architecture: use --to yoco, --to official or --to fla'
        : `Hugging Face has no architecture ${quote(architectureName(config))}: use --to yoco`,
    );
  }
  const windowed = config.slidingWindow !== null;
  const [type, architecture] = modelType(config);
  return {
    architectures: [`${architecture}ForCausalLM`],
    model_type: type,
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
    ...(type.startsWith('qwen') ? { use_sliding_window: windowed, max_window_layers: 0 } : {}),
    tie_word_embeddings: config.tieEmbeddings,
    attention_bias: false,
    mlp_bias: false,
    torch_dtype: dtype,
  };
}
