/**
 * Hugging Face directories of Llama, Mistral, Qwen 2 and Qwen 3: `config.json`, `model.safetensors` or its shards, tokenizer files. Their rotary
 * embedding pairs i with i + D/2 as our Transformer does, so that no rows change places.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TokenIds } from '../../data/tokenizers/conventions.js';
import type { TransformerConfig } from '../../model/config.js';
import type { DataType } from '../data-type.js';
import { readJson, writeJson } from '../files.js';
import { checkFit, MappedSource, parameterShapes } from '../mapped-source.js';
import type { Placement } from '../mapped-source.js';
import { openSafetensors, writeShards } from '../sharded.js';
import type { TensorSource } from '../tensor-source.js';
import { copyEntries } from './format.js';
import type { Checkpoint, CheckpointFormat } from './format.js';
import { huggingFaceConfig, readHuggingFaceConfig } from './hugging-face-config.js';
import { copyTokenizer, tokenIdsOf, tokenizerIn } from './tokenizer-files.js';

const EMBEDDING = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';

const TOP_LEVEL: Readonly<Record<string, string>> = {
  'tok_embeddings.weight': EMBEDDING,
  'norm.weight': 'model.norm.weight',
  'output.weight': HEAD,
};

const IN_LAYER: Readonly<Record<string, string>> = {
  'attention.wq': 'self_attn.q_proj',
  'attention.wk': 'self_attn.k_proj',
  'attention.wv': 'self_attn.v_proj',
  'attention.wo': 'self_attn.o_proj',
  'attention.q_norm': 'self_attn.q_norm',
  'attention.k_norm': 'self_attn.k_norm',
  attention_norm: 'input_layernorm',
  ffn_norm: 'post_attention_layernorm',
  'feed_forward.w1': 'mlp.gate_proj',
  'feed_forward.w2': 'mlp.down_proj',
  'feed_forward.w3': 'mlp.up_proj',
};

/** `layers.3.attention.wq.weight` → `model.layers.3.self_attn.q_proj.weight`. */
function huggingFaceName(name: string): string {
  const [, layer, part, kind] = /^layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
  const renamed = part === undefined ? TOP_LEVEL[name] : IN_LAYER[part];
  if (renamed === undefined) throw new Error(`no Hugging Face name for ${name}`);
  return part === undefined ? renamed : `model.layers.${layer ?? ''}.${renamed}.${kind ?? ''}`;
}

function placementsIn(source: TensorSource, config: TransformerConfig): Map<string, Placement> {
  const placements = new Map<string, Placement>();
  for (const name of parameterShapes(config).keys()) placements.set(name, { name: huggingFaceName(name) });
  // Of two tied matrices only one is stored, and it need not be the embedding.
  if (config.tieEmbeddings && !source.has(EMBEDDING)) placements.set('tok_embeddings.weight', { name: HEAD });
  return placements;
}

/** The head of a tied model may be stored beside the embedding; older versions saved the rotary frequencies. */
function isRedundant(config: TransformerConfig): (name: string) => boolean {
  return (name) => (config.tieEmbeddings && name === HEAD) || name.endsWith('.rotary_emb.inv_freq');
}

function open(directory: string): Checkpoint {
  const file = join(directory, 'config.json');
  const fields = readJson(file);
  const config = readHuggingFaceConfig(file, fields);
  const source = openSafetensors(directory);
  const placements = placementsIn(source, config);
  try {
    checkFit(source, parameterShapes(config), placements, isRedundant(config));
  } catch (error) {
    source.close();
    throw error;
  }
  const { max_position_embeddings: positions } = fields;
  return {
    config,
    tokenizer: tokenizerIn(directory),
    context: typeof positions === 'number' ? positions : null,
    provenance: null,
    tensors: new MappedSource(source, placements),
  };
}

/** The fields of `config.json` that name tokens; null where none is known, so that no default of Llama's applies. */
export function tokenFields({ begin, end, padding }: TokenIds): Readonly<Record<string, unknown>> {
  const [first = null] = end;
  return {
    bos_token_id: begin,
    eos_token_id: end.length > 1 ? end : first,
    pad_token_id: padding,
  };
}

const TORCH_NAMES: Readonly<Record<string, string>> = { F16: 'float16', BF16: 'bfloat16', F64: 'float64' };

/** What torch calls a type. */
export const torchName = (dtype: DataType): string => TORCH_NAMES[dtype] ?? 'float32';

export const huggingFaceFormat: CheckpointFormat = {
  name: 'huggingface',
  description: 'config.json and safetensors of a Llama, Mistral, Qwen 2 or Qwen 3 model',
  detect(directory) {
    const file = join(directory, 'config.json');
    if (!existsSync(file)) return false;
    const { model_type: type, architectures } = readJson(file);
    return type !== undefined || architectures !== undefined;
  },
  open,
  async write(directory, { config, tokenizer, tokens, context, tensors }, { dtype, maxShardBytes }) {
    const [first = ''] = tensors.names();
    const stored = dtype ?? tensors.info(first).dtype;
    const ids = await tokenIdsOf(tokenizer, tokens);
    const fields = {
      ...huggingFaceConfig(config, context, torchName(stored)),
      ...tokenFields(ids),
    };
    await writeShards(directory, copyEntries(tensors, dtype, huggingFaceName), maxShardBytes);
    copyTokenizer(tokenizer, directory);
    writeJson(join(directory, 'config.json'), fields);
  },
};
