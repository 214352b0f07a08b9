/** The metadata of GGUF files of Llama's and Qwen's architectures, to and from our Transformer configuration. */
import { RunError, UsageError } from '../../errors.js';
import { architectureName } from '../../model/config.js';
import type { ModelConfig, RopeScaling, TransformerConfig } from '../../model/config.js';
import { transformerFrequencies } from '../../model/frequencies.js';
import { HEAD_OPTIONS } from '../../model/mixers/attention.js';
import { quote } from '../files.js';
import type { GgufFile } from '../gguf/file.js';
import { shown, type GgufMetadata } from '../gguf/header.js';
import type { GgufField } from '../gguf/writer.js';
import { configFrom } from './config-from.js';

/** Architectures of llama.cpp that our Transformer computes, and what tells them from Llama. */
const ARCHITECTURES = {
  llama: {},
  qwen2: { attentionBias: true },
  qwen3: { qkNorm: true },
} as const;
type Architecture = keyof typeof ARCHITECTURES;

/** llama.cpp's name for what a Transformer is. */
export const ggufArchitecture = ({ attentionBias, qkNorm }: TransformerConfig): Architecture =>
  attentionBias ? 'qwen2' : qkNorm ? 'qwen3' : 'llama';

/** Factors of the rotary frequencies, [headDim / 2]: how files of Llama 3.1 and later say their scaling. */
export const ROPE_FACTORS = 'rope_freqs.weight';

/** Fields after the name of the architecture that change nothing, or that are read below. */
const KNOWN = new Set([
  ...['vocab_size', 'context_length', 'embedding_length', 'block_count', 'feed_forward_length'],
  ...['attention.head_count', 'attention.head_count_kv', 'attention.layer_norm_rms_epsilon'],
  ...['attention.key_length', 'attention.value_length', 'tensor_data_layout'],
  ...['rope.dimension_count', 'rope.freq_base', 'rope.scale_linear'],
  ...['rope.scaling.type', 'rope.scaling.factor', 'rope.scaling.original_context_length'],
  'rope.scaling.finetuned',
]);
/** Fields of models that llama.cpp computes in another way, and the values that say it does not. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  expert_count: [0],
  expert_used_count: [0],
  'attention.causal': [true],
  use_parallel_residual: [false],
  'attention.sliding_window': [0],
  logit_scale: [0, 1],
  embedding_scale: [0, 1],
  residual_scale: [0, 1],
};

function requireKnown(file: string, metadata: GgufMetadata, prefix: string): void {
  for (const [key, value] of metadata) {
    if (!key.startsWith(prefix)) continue;
    const name = key.slice(prefix.length);
    if (KNOWN.has(name) || NEUTRAL[name]?.includes(value) === true) continue;
    throw new RunError(`${file}: ${quote(key)} is ${shown(value)}, which the Transformer here does not have`);
  }
}

function ropeScaling(
  source: GgufFile,
  prefix: string,
  plain: { headDim: number; theta: number },
): RopeScaling | null {
  const { path, metadata } = source;
  const type = metadata.get(`${prefix}rope.scaling.type`) ?? 'none';
  const factor = metadata.get(`${prefix}rope.scaling.factor`) ?? metadata.get(`${prefix}rope.scale_linear`);
  if (source.has(ROPE_FACTORS)) return llama3Scaling(source, prefix, plain);
  if (type === 'none' && !metadata.has(`${prefix}rope.scale_linear`)) return null;
  if (type !== 'linear' && type !== 'none') {
    throw new RunError(`${path}: rope scaling of type ${shown(type)} is not known (linear, llama3)`);
  }
  if (typeof factor !== 'number') throw new RunError(`${path}: its linear rope scaling has no factor`);
  return factor === 1 ? null : { type: 'linear', factor };
}

/** Contexts before stretching that are tried where the file does not say it: Llama 3's. */
const ORIGINAL_CONTEXT = 8192;

/**
 * Files have the factors of all frequencies, not what they were made from. The largest is the factor of Llama 3's rule; the
 * rule must then give all others.
 */
function llama3Scaling(
  source: GgufFile,
  prefix: string,
  { headDim, theta }: { headDim: number; theta: number },
): RopeScaling | null {
  const { path, metadata } = source;
  const info = source.info(ROPE_FACTORS);
  if (info.dtype !== 'F32' || info.shape.length !== 1 || info.shape[0] !== headDim / 2) {
    throw new RunError(`${path}: tensor ${quote(ROPE_FACTORS)} is not F32 [${headDim / 2}]`);
  }
  const factors = source.read(ROPE_FACTORS) as Float32Array;
  if (factors.every((factor) => factor === 1)) return null;
  const original = metadata.get(`${prefix}rope.scaling.original_context_length`) ?? ORIGINAL_CONTEXT;
  const scaling: RopeScaling = {
    type: 'llama3',
    // The rule divides by it in float64; a factor such as 8 is exact in the file's float32.
    factor: Math.max(...factors),
    lowFrequencyFactor: 1,
    highFrequencyFactor: 4,
    originalContext: Number(original),
  };
  const expected = scalingFactors(headDim, theta, scaling);
  if (factors.every((value, i) => Math.abs(value / (expected[i] ?? 0) - 1) < 1e-4)) return scaling;
  throw new RunError(
    `${path}: its ${ROPE_FACTORS} are not those of Llama 3's rule with the factors 1 and 4 and ${shown(original)} positions, ` +
      `the only ones that are read`,
  );
}

/** By how much scaling divides every frequency. */
function scalingFactors(headDim: number, theta: number, scaling: RopeScaling): Float32Array {
  const plain = transformerFrequencies(headDim, theta, null);
  const scaled = transformerFrequencies(headDim, theta, scaling);
  return Float32Array.from(plain, (frequency, i) => frequency / (scaled[i] ?? 1));
}

function number(source: GgufFile, key: string, fallback?: unknown): unknown {
  const value = source.metadata.get(key) ?? fallback;
  if (value === undefined) throw new RunError(`${source.path}: it has no field ${quote(key)}`);
  if (typeof value === 'object') {
    throw new RunError(
      `${source.path}: ${quote(key)} differs from layer to layer, which the Transformer here does not have`,
    );
  }
  return value;
}

const FIELD_NAMES = {
  dim: 'embedding_length',
  layers: 'block_count',
  hiddenDim: 'feed_forward_length',
  heads: 'attention.head_count',
  kvHeads: 'attention.head_count_kv',
  headDim: 'attention.key_length',
  ropeTheta: 'rope.freq_base',
  normEps: 'attention.layer_norm_rms_epsilon',
} as const;

/** Float32 in the file: the decimal number that was meant, as 1e-5 and not 9.99999974e-6. */
const decimal = (value: unknown): unknown =>
  typeof value === 'number' ? Number(value.toPrecision(7)) : value;

const isArchitecture = (name: unknown): name is Architecture =>
  typeof name === 'string' && Object.hasOwn(ARCHITECTURES, name);

/** Our configuration. @throws RunError naming file and field where the model is no plain Llama, Qwen 2 or Qwen 3 */
export function readGgufConfig(source: GgufFile): TransformerConfig {
  const { path, metadata } = source;
  const architecture = metadata.get('general.architecture');
  if (!isArchitecture(architecture)) {
    const names = Object.keys(ARCHITECTURES).join(', ');
    throw new RunError(`${path}: its architecture is ${shown(architecture)}; read are ${names}`);
  }
  if (Number(metadata.get('split.count') ?? 0) > 1) {
    throw new RunError(
      `${path}: one of several files of a model: join them first (llama-gguf-split --merge)`,
    );
  }
  const prefix = `${architecture}.`;
  requireKnown(path, metadata, prefix);
  const heads = number(source, `${prefix}attention.head_count`);
  const dim = number(source, `${prefix}embedding_length`);
  const headDim = number(source, `${prefix}attention.key_length`, Number(dim) / Number(heads));
  for (const name of ['attention.value_length', 'rope.dimension_count']) {
    const other = number(source, prefix + name, headDim);
    if (other === headDim) continue;
    throw new RunError(
      `${path}: ${quote(prefix + name)} is ${String(other)} where a head has ${String(headDim)}, which the Transformer here does not have`,
    );
  }
  const theta = decimal(number(source, `${prefix}rope.freq_base`, 10000));
  const input = {
    architecture: 'transformer',
    dim,
    heads,
    headDim,
    layers: number(source, `${prefix}block_count`),
    hiddenDim: number(source, `${prefix}feed_forward_length`),
    kvHeads: number(source, `${prefix}attention.head_count_kv`, heads),
    vocabSize: source.has('token_embd.weight') ? source.info('token_embd.weight').shape[0] : undefined,
    ropeTheta: theta,
    normEps: decimal(number(source, `${prefix}attention.layer_norm_rms_epsilon`)),
    tieEmbeddings: !source.has('output.weight'),
    ...ARCHITECTURES[architecture],
  };
  // The scaling of frequencies needs a head's width that has been checked.
  const { headDim: width, ropeTheta } = configFrom(path, input, FIELD_NAMES) as TransformerConfig;
  const scaling = ropeScaling(source, prefix, { headDim: width, theta: ropeTheta });
  return configFrom(path, { ...input, ropeScaling: scaling }, FIELD_NAMES) as TransformerConfig;
}

/** A Transformer that llama.cpp computes as we do. @throws UsageError for any other */
export function requireKnownToGguf(config: ModelConfig): TransformerConfig {
  if (config.architecture !== 'transformer') {
    throw new UsageError(
      config.architecture === 'yoco'
        ? 'GGUF has no YOCO architecture: use --to yoco, --to official or --to fla'
        : `GGUF has no architecture ${quote(architectureName(config))}: use --to yoco`,
    );
  }
  if (config.slidingWindow !== null) {
    throw new UsageError('llama.cpp has no sliding window in this architecture: use --to huggingface');
  }
  if (HEAD_OPTIONS.every((name) => config[name])) {
    throw new UsageError('GGUF has no architecture with both attentionBias and qkNorm: use --to yoco');
  }
  const architecture = ggufArchitecture(config);
  if (architecture !== 'llama' && config.ropeScaling?.type === 'llama3') {
    throw new UsageError(`GGUF's ${architecture} architecture has no rope scaling of Llama 3: use --to yoco`);
  }
  return config;
}

/** The fields of a file for a Transformer, and the tensor of its rotary factors where it has one. */
export function ggufFields(config: TransformerConfig, context: number): GgufField[] {
  const { ropeScaling: scaling } = config;
  const architecture = ggufArchitecture(config);
  const key = (name: string): string => `${architecture}.${name}`;
  const u32 = (name: string, value: number): GgufField => ({ key: key(name), type: 'u32', value });
  const f32 = (name: string, value: number): GgufField => ({ key: key(name), type: 'f32', value });
  const type = (value: string): GgufField => ({ key: key('rope.scaling.type'), type: 'text', value });
  return [
    { key: 'general.architecture', type: 'text', value: architecture },
    u32('vocab_size', config.vocabSize),
    u32('context_length', context),
    u32('embedding_length', config.dim),
    u32('block_count', config.layers),
    u32('feed_forward_length', config.hiddenDim),
    u32('attention.head_count', config.heads),
    u32('attention.head_count_kv', config.kvHeads),
    u32('attention.key_length', config.headDim),
    u32('attention.value_length', config.headDim),
    f32('attention.layer_norm_rms_epsilon', config.normEps),
    u32('rope.dimension_count', config.headDim),
    f32('rope.freq_base', config.ropeTheta),
    ...(scaling?.type === 'linear' ? [type('linear'), f32('rope.scaling.factor', scaling.factor)] : []),
    ...(scaling?.type === 'llama3'
      ? [u32('rope.scaling.original_context_length', scaling.originalContext)]
      : []),
  ];
}

/** The factors of the rotary frequencies that llama.cpp divides by; null where the fields say all. */
export function ropeFactors({ headDim, ropeTheta, ropeScaling }: TransformerConfig): Float32Array | null {
  return ropeScaling?.type === 'llama3' ? scalingFactors(headDim, ropeTheta, ropeScaling) : null;
}
