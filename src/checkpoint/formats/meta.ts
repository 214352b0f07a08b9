/**
 * Meta's and Mistral's own Llama layout: `params.json` and `consolidated.00.pth` (or `consolidated.safetensors`).
 * Names are those of the official Transformer baseline, but rotary embedding pairs 2i with 2i + 1, so that the rows
 * of W_Q and W_K change places on the way in and out.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { RunError, UsageError } from '../../errors.js';
import { architectureName } from '../../model/config.js';
import { HEAD_OPTIONS } from '../../model/mixers/attention.js';
import type { ModelConfig, TransformerConfig } from '../../model/config.js';
import { quote, readJson, writeJson } from '../files.js';
import { checkFit, MappedSource, parameterShapes } from '../mapped-source.js';
import type { Placement } from '../mapped-source.js';
import type { RowOrder } from '../rotary-rows.js';
import { SafetensorsFile } from '../safetensors.js';
import type { TensorSource } from '../tensor-source.js';
import { TorchArchive } from '../torch-archive.js';
import { writeTorchArchive } from '../torch-writer.js';
import { configFrom } from './config-from.js';
import { copyEntries } from './format.js';
import type { Checkpoint, CheckpointFormat } from './format.js';
import { copyTokenizer, tokenizerIn } from './tokenizer-files.js';
import { TRANSFORMER_PARAMS } from './params.js';

type Fields = Readonly<Record<string, unknown>>;

const ARCHIVE = 'consolidated.00.pth';
const SAFETENSORS = ['consolidated.safetensors', 'consolidated.00.safetensors'] as const;

function tensorFile(directory: string): string | undefined {
  return [ARCHIVE, ...SAFETENSORS].map((name) => join(directory, name)).find((path) => existsSync(path));
}

function openTensors(directory: string): TensorSource {
  const file = tensorFile(directory) ?? join(directory, ARCHIVE);
  const second = join(directory, 'consolidated.01.pth');
  if (existsSync(second)) {
    throw new RunError(
      `${second}: a checkpoint divided for model parallelism; merge it into ${ARCHIVE} first`,
    );
  }
  return file.endsWith('.pth') ? TorchArchive.open(file) : SafetensorsFile.open(file);
}

function sizeOf(source: TensorSource, name: string, axis: number): number | undefined {
  return source.has(name) ? source.info(name).shape[axis] : undefined;
}

/**
 * Factors by width and depth of the models whose params.json says `use_scaled_rope` alone: 8 for Llama 3.1 and 3.3, 32
 * for 3.2 with 1 and 3 billion parameters (transformers, convert_llama_weights_to_hf.py; llama-models, sku_list.py).
 */
const ROPE_FACTORS: Readonly<Record<string, { factor: number; model: string }>> = {
  '2048×16': { factor: 32, model: 'Llama 3.2 1B' },
  '3072×28': { factor: 32, model: 'Llama 3.2 3B' },
  '4096×32': { factor: 8, model: 'Llama 3.1 8B' },
  '8192×80': { factor: 8, model: 'Llama 3.1 and 3.3 70B' },
  '16384×126': { factor: 8, model: 'Llama 3.1 405B' },
};

/** All of these were made for so many tokens (llama-models, sku_list.py). */
const SCALED_CONTEXT = 131_072;

const isScaled = (params: Fields): boolean => params.use_scaled_rope === true;
const givenFactor = ({ rope_scaling_factor: factor }: Fields): unknown => factor ?? null;
const knownFactor = ({ dim, n_layers: layers }: Fields): { factor: number; model: string } | undefined =>
  ROPE_FACTORS[`${String(dim)}×${String(layers)}`];

function ropeFactor(file: string, params: Fields): unknown {
  const known = givenFactor(params) ?? knownFactor(params)?.factor;
  if (known !== undefined) return known;
  throw new RunError(
    `${file}: use_scaled_rope without a factor, which is 8 for Llama 3.1 and 32 for Llama 3.2: add the field rope_scaling_factor`,
  );
}

/** params.json mentions the scaling of Llama 3 by `use_scaled_rope`; later files give its factors too. */
function scaling(file: string, params: Fields): Fields | null {
  if (!isScaled(params)) return null;
  return {
    type: 'llama3',
    factor: ropeFactor(file, params),
    lowFrequencyFactor: params.low_freq_factor ?? 1,
    highFrequencyFactor: params.rope_high_freq_factor ?? 4,
    originalContext: 8192,
  };
}

function remarksOn(file: string, params: Fields): string[] {
  const known = knownFactor(params);
  if (!isScaled(params) || givenFactor(params) !== null || known === undefined) return [];
  return [
    `${file}: use_scaled_rope without a factor: ${known.factor} is taken, as ${known.model} has it; ` +
      `the field rope_scaling_factor sets another`,
  ];
}

/**
 * The base of the rotary frequencies where a file has none: 10,000 in Llama's code, which knows the rule `multiple_of`; in
 * Mistral's (mistral-inference, transformer.py) that for models with a window, and 1,000,000 for those without.
 */
function ropeTheta(params: Fields): unknown {
  const { rope_theta: theta, sliding_window: window } = params;
  if (theta !== undefined && theta !== null) return theta;
  const isMistral = params.hidden_dim !== undefined && params.multiple_of === undefined;
  return isMistral && (window === undefined || window === null) ? 1_000_000 : 10_000;
}

/** Width of the feed-forward network and vocabulary are read off the tensors: files give rounding rules or -1. */
function readConfig(file: string, params: Fields, source: TensorSource): TransformerConfig {
  const config = configFrom(
    file,
    {
      architecture: 'transformer',
      dim: params.dim,
      layers: params.n_layers,
      hiddenDim: params.hidden_dim ?? sizeOf(source, 'layers.0.feed_forward.w1.weight', 0),
      heads: params.n_heads,
      kvHeads: params.n_kv_heads,
      headDim: params.head_dim,
      vocabSize: sizeOf(source, 'tok_embeddings.weight', 0) ?? params.vocab_size,
      ropeTheta: ropeTheta(params),
      normEps: params.norm_eps,
      slidingWindow: params.sliding_window,
      tieEmbeddings: !source.has('output.weight'),
      ropeScaling: scaling(file, params),
    },
    TRANSFORMER_PARAMS,
  );
  if (config.architecture !== 'transformer') throw new RunError(`${file}: not a Transformer`);
  return config;
}

function placementsOf(config: TransformerConfig, to: RowOrder['to']): Map<string, Placement> {
  const rotated = /\.attention\.w[qk]\.weight$/;
  const rows: RowOrder = { headDim: config.headDim, to };
  return new Map(
    [...parameterShapes(config).keys()].map((name) => [name, rotated.test(name) ? { name, rows } : { name }]),
  );
}

function open(directory: string): Checkpoint {
  const file = join(directory, 'params.json');
  const source = openTensors(directory);
  try {
    const params = readJson(file);
    const config = readConfig(file, params, source);
    const placements = placementsOf(config, 'half');
    checkFit(source, parameterShapes(config), placements, (name) => name === 'rope.freqs');
    const tensors = new MappedSource(source, placements);
    return {
      ...{ config, tensors, tokenizer: tokenizerIn(directory), provenance: null },
      context: isScaled(params) && knownFactor(params) !== undefined ? SCALED_CONTEXT : null,
      remarks: remarksOn(file, params),
    };
  } catch (error) {
    source.close();
    throw error;
  }
}

function paramsOf(config: ModelConfig): Fields {
  if (config.architecture !== 'transformer') {
    throw new UsageError(
      config.architecture === 'yoco'
        ? "Meta's layout has no YOCO architecture: use --to yoco, --to official or --to fla"
        : `Meta's layout has no architecture ${quote(architectureName(config))}: use --to yoco`,
    );
  }
  const { ropeScaling } = config;
  const option = HEAD_OPTIONS.find((name) => config[name]);
  if (option !== undefined) {
    throw new UsageError(`Meta's layout cannot express ${option}: use --to huggingface`);
  }
  if (ropeScaling?.type === 'linear') {
    throw new UsageError(`Meta's layout cannot express ropeScaling ${quote('linear')}: use --to huggingface`);
  }
  const scaled =
    ropeScaling === null
      ? {}
      : {
          use_scaled_rope: true,
          rope_scaling_factor: ropeScaling.factor,
          low_freq_factor: ropeScaling.lowFrequencyFactor,
          rope_high_freq_factor: ropeScaling.highFrequencyFactor,
        };
  return {
    dim: config.dim,
    n_layers: config.layers,
    head_dim: config.headDim,
    hidden_dim: config.hiddenDim,
    n_heads: config.heads,
    n_kv_heads: config.kvHeads,
    norm_eps: config.normEps,
    vocab_size: config.vocabSize,
    rope_theta: config.ropeTheta,
    ...(config.slidingWindow === null ? {} : { sliding_window: config.slidingWindow }),
    ...scaled,
  };
}

export const metaFormat: CheckpointFormat = {
  name: 'meta',
  description: "params.json and consolidated.00.pth, Llama's original layout (interleaved rotary pairs)",
  detect: (directory) => existsSync(join(directory, 'params.json')) && tensorFile(directory) !== undefined,
  open,
  async write(directory, { config, tokenizer, tensors }, { dtype }) {
    const params = paramsOf(config);
    if (config.architecture !== 'transformer') return;
    const permuted = new MappedSource(tensors, placementsOf(config, 'interleaved'));
    await writeTorchArchive(join(directory, ARCHIVE), copyEntries(permuted, dtype));
    copyTokenizer(tokenizer, directory);
    writeJson(join(directory, 'params.json'), params);
  },
};
