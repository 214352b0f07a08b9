/**
 * Directories of flash-linear-attention's YOCO: `config.json`, `model.safetensors` or its shards, tokenizer files. Rotary pairs are
 * interleaved as ours are, but those of its window attention, which pairs i with i + D/2.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { YocoConfig } from '../../model/config.js';
import { readJson, writeJson } from '../files.js';
import { checkFit, MappedSource, parameterShapes } from '../mapped-source.js';
import type { Placement } from '../mapped-source.js';
import type { RowOrder } from '../rotary-rows.js';
import { openSafetensors, writeShards } from '../sharded.js';
import type { TensorSource } from '../tensor-source.js';
import { flaConfig, readFlaConfig } from './fla-config.js';
import { copyEntries } from './format.js';
import type { Checkpoint, CheckpointFormat } from './format.js';
import { tokenFields, torchName } from './hugging-face.js';
import { copyTokenizer, tokenIdsOf, tokenizerIn } from './tokenizer-files.js';

const HEAD = 'lm_head.weight';

const OUTSIDE: Readonly<Record<string, string>> = {
  'embed_tokens.weight': 'model.embeddings.weight',
  'output_projection.weight': HEAD,
  'layer_norm.weight': 'model.norm.weight',
  'cross_decoder.k_proj.weight': 'model.shared_kv_builder.k_proj.weight',
  'cross_decoder.v_proj.weight': 'model.shared_kv_builder.v_proj.weight',
  'cross_decoder.kv_layer_norm.weight': 'model.shared_kv_builder.kv_norm.weight',
};

/** fla's MLP is down(silu(gate x) * up x), ours fc2(silu(fc1 x) * gate x). */
const IN_LAYER: Readonly<Record<string, string>> = {
  'mixer.gt_proj': 'attn.gk_proj',
  'mixer.out_proj': 'attn.o_proj',
  mixer_layer_norm: 'attn_norm',
  final_layer_norm: 'mlp_norm',
  'ffn.fc1': 'mlp.gate_proj',
  'ffn.gate': 'mlp.up_proj',
  'ffn.fc2': 'mlp.down_proj',
};

/** `self_decoder.layers.3.mixer.gt_proj.weight` → `model.self_layers.3.attn.gk_proj.weight`. */
function flaName(name: string): string {
  const outside = OUTSIDE[name];
  if (outside !== undefined) return outside;
  const [, half, layer, part = '', kind = ''] =
    /^(self|cross)_decoder\.layers\.(\d+)\.(.+?)(\.weight)?$/.exec(name) ?? [];
  if (half === undefined || layer === undefined)
    throw new Error(`no name in flash-linear-attention for ${name}`);
  return `model.${half}_layers.${layer}.${IN_LAYER[part] ?? part.replace(/^mixer\./, 'attn.')}${kind}`;
}

/** Rows of queries and keys that change places. */
function rowsOf(config: YocoConfig, name: string, to: RowOrder['to']): RowOrder | undefined {
  const isRotated = config.selfDecoder === 'sliding-window' && /^self_decoder\..*\.[qk]_proj\./.test(name);
  return isRotated ? { headDim: config.dim / config.selfHeads, to } : undefined;
}

function placements(
  config: YocoConfig,
  to: RowOrder['to'],
  stored: (name: string) => string,
): Map<string, Placement> {
  return new Map(
    [...parameterShapes(config).keys()].map((name) => {
      const rows = rowsOf(config, name, to);
      return [name, { name: stored(name), ...(rows && { rows }) }];
    }),
  );
}

function open(directory: string): Checkpoint {
  const { config, context } = readFlaConfig(join(directory, 'config.json'));
  const source = openSafetensors(directory);
  const placed = placements(config, 'interleaved', flaName);
  const isTable = (name: string): boolean => name.endsWith('.rotary.inv_freq');
  try {
    checkFit(
      source,
      parameterShapes(config),
      placed,
      (name) => isTable(name) || (config.tieEmbeddings && name === HEAD),
    );
  } catch (error) {
    source.close();
    throw error;
  }
  return {
    config,
    tokenizer: tokenizerIn(directory),
    context,
    provenance: null,
    tensors: new MappedSource(source, placed),
  };
}

/** The parameters as fla orders the rows of their heads. */
function reordered(config: YocoConfig, tensors: TensorSource): TensorSource {
  return new MappedSource(
    tensors,
    placements(config, 'half', (name) => name),
  );
}

export const flaFormat: CheckpointFormat = {
  name: 'fla',
  description: 'config.json and safetensors of a YOCO of flash-linear-attention',
  detect(directory) {
    const file = join(directory, 'config.json');
    return existsSync(file) && readJson(file).model_type === 'yoco';
  },
  open,
  async write(directory, { config, tokenizer, tokens, context, tensors }, { dtype, maxShardBytes }) {
    const [first = ''] = tensors.names();
    const fields = flaConfig(config, context, torchName(dtype ?? tensors.info(first).dtype));
    const ids = await tokenIdsOf(tokenizer, tokens);
    const source = reordered(config as YocoConfig, tensors);
    await writeShards(directory, copyEntries(source, dtype, flaName), maxShardBytes);
    copyTokenizer(tokenizer, directory);
    writeJson(join(directory, 'config.json'), { ...fields, ...tokenFields(ids) });
  },
};
