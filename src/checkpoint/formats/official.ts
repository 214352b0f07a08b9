/**
 * The layout of the official code (microsoft/unilm, YOCO): `params.json`, the fields of `YOCOArgs` or `ModelArgs`,
 * and `checkpoint.pth`, a state dict. Our parameter names are the official ones, and so are the conventions of
 * rotary embedding: tensors are copied as they are. `model.safetensors` in place of `checkpoint.pth` is read too.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { RunError, UsageError } from '../../errors.js';
import { architectureName } from '../../model/config.js';
import type { ModelConfig, TransformerConfig, YocoConfig } from '../../model/config.js';
import { HEAD_OPTIONS } from '../../model/mixers/attention.js';
import { conventionsOf } from '../../model/conventions.js';
import { quote, readJson, writeJson } from '../files.js';
import { checkFit, MappedSource, parameterShapes } from '../mapped-source.js';
import type { Placement } from '../mapped-source.js';
import { hasSafetensors, openSafetensors } from '../sharded.js';
import type { TensorSource } from '../tensor-source.js';
import { TorchArchive } from '../torch-archive.js';
import { writeTorchArchive } from '../torch-writer.js';
import { copyEntries } from './format.js';
import type { Checkpoint, CheckpointFormat } from './format.js';
import { configFrom } from './config-from.js';
import { copyTokenizer, tokenizerIn } from './tokenizer-files.js';
import { TRANSFORMER_PARAMS } from './params.js';

type Params = Readonly<Record<string, unknown>>;

/** The official code's tables of rotary phases have a multiple of 256 positions, the block size of its retention. */
const BLOCK = 256;
const DEFAULT_POSITIONS = 32768;

function yocoInput(params: Params): Params {
  return {
    architecture: 'yoco',
    dim: params.dim,
    layers: params.n_layers,
    hiddenDim: params.hidden_dim,
    selfHeads: params.n_self_heads,
    heads: params.n_attn_heads,
    kvHeads: params.n_attn_kv_heads,
    vocabSize: params.vocab_size,
    slidingWindow: params.sliding_window,
    ropeTheta: params.rope_theta,
    normEps: params.norm_eps,
  };
}

function transformerInput(params: Params): Params {
  return {
    architecture: 'transformer',
    dim: params.dim,
    layers: params.n_layers,
    hiddenDim: params.hidden_dim,
    heads: params.n_heads,
    kvHeads: params.n_kv_heads,
    headDim: params.head_dim,
    vocabSize: params.vocab_size,
    slidingWindow: params.sliding_window,
    ropeTheta: params.rope_theta,
    normEps: params.norm_eps,
  };
}

const YOCO_PARAMS = {
  ...TRANSFORMER_PARAMS,
  selfHeads: 'n_self_heads',
  heads: 'n_attn_heads',
  kvHeads: 'n_attn_kv_heads',
} as const;

/**
 * State dicts are also saved inside others (`{"model": {...}}`, fairseq's way): the prefix of the parameters.
 * @param stateDict which to take, where there are several
 * @throws RunError where there are several and none is named, UsageError where there is none of that name
 */
function findPrefix(source: TensorSource, first: string, stateDict: string | undefined): string {
  const names = source.names().filter((name) => name === first || name.endsWith(`.${first}`));
  const prefixes = names.map((name) => name.slice(0, -first.length));
  const shown = prefixes.map((prefix) => quote(prefix.replace(/\.$/, ''))).join(', ');
  if (stateDict !== undefined) {
    const prefix = stateDict === '' ? '' : `${stateDict}.`;
    if (prefixes.includes(prefix)) return prefix;
    throw new UsageError(`${source.path} has no state dict ${quote(stateDict)}; it has ${shown}`);
  }
  if (prefixes.length > 1) {
    const [example = ''] = prefixes.map((prefix) => prefix.replace(/\.$/, ''));
    throw new RunError(
      `${source.path} holds several state dicts (${shown}): name one after the directory, as in DIR#${example}`,
    );
  }
  return prefixes[0] ?? '';
}

function open(directory: string, stateDict?: string): Checkpoint {
  const file = join(directory, 'params.json');
  const params = readJson(file);
  const config =
    'n_self_heads' in params
      ? configFrom(file, yocoInput(params), YOCO_PARAMS)
      : configFrom(file, transformerInput(params), TRANSFORMER_PARAMS);
  const archive = join(directory, 'checkpoint.pth');
  const shapes = parameterShapes(config);
  const source =
    !existsSync(archive) && hasSafetensors(directory)
      ? openSafetensors(directory)
      : TorchArchive.open(archive);
  let placements: Map<string, Placement>;
  try {
    const prefix = findPrefix(source, `${conventionsOf(config).embedding}.weight`, stateDict);
    placements = new Map([...shapes.keys()].map((name) => [name, { name: prefix + name }]));
    // Beside a prefixed state dict lie optimizer states and the like.
    checkFit(source, shapes, placements, (name) => prefix !== '' && !name.startsWith(prefix));
  } catch (error) {
    source.close();
    throw error;
  }
  return {
    config,
    tokenizer: tokenizerIn(directory),
    context: null,
    provenance: null,
    tensors: new MappedSource(source, placements),
  };
}

const OFFICIAL_SELF_DECODERS: readonly string[] = ['gated-retention', 'sliding-window'];

function refuse(what: string): never {
  throw new UsageError(`the official layout cannot express ${what}: use --to yoco`);
}

function yocoParams(config: YocoConfig): Params {
  const { selfDecoder } = config;
  if (!OFFICIAL_SELF_DECODERS.includes(selfDecoder)) refuse(`selfDecoder '${selfDecoder}'`);
  if (config.crossPositions !== 'rotary') refuse(`crossPositions '${config.crossPositions}'`);
  if (config.selfLayers * 2 !== config.layers)
    refuse(`${config.selfLayers} self-decoder layers of ${config.layers}`);
  return {
    dim: config.dim,
    n_layers: config.layers,
    hidden_dim: config.hiddenDim,
    n_self_heads: config.selfHeads,
    n_attn_heads: config.heads,
    n_attn_kv_heads: config.kvHeads,
    vocab_size: config.vocabSize,
  };
}

function transformerParams(config: TransformerConfig): Params {
  if (config.ropeScaling !== null) refuse('ropeScaling');
  const option = HEAD_OPTIONS.find((name) => config[name]);
  if (option !== undefined) refuse(option);
  return {
    dim: config.dim,
    n_layers: config.layers,
    head_dim: config.headDim,
    hidden_dim: config.hiddenDim,
    n_heads: config.heads,
    n_kv_heads: config.kvHeads,
    vocab_size: config.vocabSize,
  };
}

function architectureParams(config: ModelConfig): Params {
  if (config.architecture === 'yoco') return yocoParams(config);
  if (config.architecture === 'transformer') return transformerParams(config);
  return refuse(`the layout '${architectureName(config)}'`);
}

function paramsOf(config: ModelConfig, context: number | null): Params {
  return {
    ...architectureParams(config),
    max_batch_size: 1,
    max_seq_len: context === null ? DEFAULT_POSITIONS : Math.ceil(context / BLOCK) * BLOCK,
    model_parallel_size: 1,
    load_checkpoint: false,
    rope_theta: config.ropeTheta,
    norm_eps: config.normEps,
    sliding_window: config.slidingWindow,
  };
}

export const officialFormat: CheckpointFormat = {
  name: 'official',
  hasStateDicts: true,
  description: 'params.json and checkpoint.pth of the official YOCO code',
  detect: (directory) => existsSync(join(directory, 'params.json')),
  open,
  async write(directory, { config, tokenizer, context, tensors }, { dtype }) {
    const params = paramsOf(config, context);
    const entries = copyEntries(tensors, dtype);
    if (config.tieEmbeddings) {
      // The official code has no tied head: it gets a copy of its own.
      const { embedding, head } = conventionsOf(config);
      const table = entries.find(({ name }) => name === `${embedding}.weight`);
      if (table !== undefined) entries.push({ ...table, name: `${head}.weight` });
    }
    await writeTorchArchive(join(directory, 'checkpoint.pth'), entries);
    copyTokenizer(tokenizer, directory);
    writeJson(join(directory, 'params.json'), params);
  },
};
