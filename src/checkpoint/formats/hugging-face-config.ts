/** `config.json` of Hugging Face Llama directories, to and from our Transformer configuration. */
import { RunError, UsageError } from '../../errors.js';
import { architectureName } from '../../model/config.js';
import type { ModelConfig, RopeScaling, TransformerConfig } from '../../model/config.js';
import { quote } from '../files.js';
import { configFrom } from './config-from.js';

type Fields = Readonly<Record<string, unknown>>;

const DEFAULT_POSITIONS = 2048;

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

/** `rope_scaling` (or, since version 5 of transformers, `rope_parameters`): null where frequencies are as usual. */
function ropeScaling(file: string, scaling: Fields): Fields | null {
  const type = scaling.rope_type ?? scaling.type ?? 'default';
  if (type === 'default') return null;
  if (type === 'linear') return { type, factor: scaling.factor };
  if (type === 'llama3') {
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
  requireSame(file, fields, 'hidden_act', 'silu');
  for (const name of ['attention_bias', 'mlp_bias']) requireSame(file, fields, name, false);
  const rope = [fields.rope_parameters, fields.rope_scaling].find(isObject) ?? {};
  const config = configFrom(file, {
    architecture: 'transformer',
    dim: fields.hidden_size,
    layers: fields.num_hidden_layers,
    hiddenDim: fields.intermediate_size,
    heads: fields.num_attention_heads,
    kvHeads: fields.num_key_value_heads,
    headDim: fields.head_dim,
    vocabSize: fields.vocab_size,
    ropeTheta: rope.rope_theta ?? fields.rope_theta ?? 10000,
    normEps: fields.rms_norm_eps ?? 1e-6,
    // Llama configurations sometimes carry the field without using it.
    slidingWindow: fields.model_type === 'mistral' ? fields.sliding_window : null,
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

/** Positions the model is said to be good for: what it was trained on, stretched by its scaling. */
function maxPositions(config: TransformerConfig, context: number | null): number {
  if (context !== null) return context;
  const { ropeScaling: scaling } = config;
  return scaling?.type === 'llama3' ? scaling.factor * scaling.originalContext : DEFAULT_POSITIONS;
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
    max_position_embeddings: maxPositions(config, context),
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
