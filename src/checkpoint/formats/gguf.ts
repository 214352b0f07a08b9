/**
 * GGUF, the files of llama.cpp, of the architectures of Llama, Qwen 2 and Qwen 3. Of Llama, rotary embedding pairs 2i with
 * 2i + 1 there, so that the rows of W_Q and W_K change places as they do for Meta's layout; of Qwen it pairs as here.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../../errors.js';
import type { TransformerConfig } from '../../model/config.js';
import type { DataType } from '../data-type.js';
import { GgufFile } from '../gguf/file.js';
import { writeGguf, type GgufEntry, type GgufField } from '../gguf/writer.js';
import type { WRITTEN_TYPES } from '../gguf/types.js';
import { checkFit, MappedSource, parameterShapes, type Placement } from '../mapped-source.js';
import type { TensorEntry, TensorInfo } from '../tensor-source.js';
import { copyEntries } from './format.js';
import type { Checkpoint, CheckpointFormat, WriteOptions } from './format.js';
import { ggufArchitecture, ggufFields, readGgufConfig } from './gguf-config.js';
import { requireKnownToGguf, ROPE_FACTORS, ropeFactors } from './gguf-config.js';
import { keepTokenizer, readTokenIdsOf } from './gguf-tokenizer.js';
import { tokenizerFields } from './gguf-tokenizer-fields.js';

export const GGUF_FILE = 'model.gguf';

const NAMES: Readonly<Record<string, string>> = {
  'tok_embeddings.weight': 'token_embd.weight',
  'norm.weight': 'output_norm.weight',
  'output.weight': 'output.weight',
};

const IN_LAYER: Readonly<Record<string, string>> = {
  'attention.wq': 'attn_q',
  'attention.wk': 'attn_k',
  'attention.wv': 'attn_v',
  'attention.wo': 'attn_output',
  'attention.q_norm': 'attn_q_norm',
  'attention.k_norm': 'attn_k_norm',
  attention_norm: 'attn_norm',
  ffn_norm: 'ffn_norm',
  'feed_forward.w1': 'ffn_gate',
  'feed_forward.w2': 'ffn_down',
  'feed_forward.w3': 'ffn_up',
};

/** `layers.3.attention.wq.weight` → `blk.3.attn_q.weight`. */
function ggufName(name: string): string {
  const [, layer, part, kind] = /^layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
  const renamed = part === undefined ? NAMES[name] : IN_LAYER[part];
  if (renamed === undefined) throw new Error(`no GGUF name for ${name}`);
  return part === undefined ? renamed : `blk.${layer ?? ''}.${renamed}.${kind ?? ''}`;
}

const ROTATED = /\.attention\.w[qk]\.(weight|bias)$/;

function placementsOf(config: TransformerConfig, to: 'half' | 'interleaved'): Map<string, Placement> {
  const changesPlaces = ggufArchitecture(config) === 'llama';
  return new Map(
    [...parameterShapes(config).keys()].map((name) => {
      const stored = to === 'half' ? ggufName(name) : name;
      const rows = changesPlaces && ROTATED.test(name) ? { rows: { headDim: config.headDim, to } } : {};
      return [name, { name: stored, ...rows }];
    }),
  );
}

/** The GGUF file that a path is or holds; undefined for none. @throws UsageError where a directory has several */
function ggufIn(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isFile() === true) return path.endsWith('.gguf') ? path : undefined;
  if (stat?.isDirectory() !== true) return undefined;
  const names = readdirSync(path).filter((name) => name.endsWith('.gguf'));
  if (names.length > 1) {
    throw new UsageError(
      `${path} holds ${names.length} GGUF files: name one, such as ${join(path, names.sort()[0] ?? '')}`,
    );
  }
  return names[0] === undefined ? undefined : join(path, names[0]);
}

function open(path: string): Checkpoint {
  const file = ggufIn(path) ?? path;
  const source = GgufFile.open(file);
  try {
    const config = readGgufConfig(source);
    const placements = placementsOf(config, 'half');
    checkFit(source, parameterShapes(config), placements, (name) => name === ROPE_FACTORS);
    const context = source.metadata.get(`${ggufArchitecture(config)}.context_length`);
    const { tokenizer, remarks } = keepTokenizer(source);
    const blocks = source.types().filter((type) => /^Q/.test(type));
    return {
      config,
      tokenizer,
      tokens: readTokenIdsOf(source),
      context: typeof context === 'number' && context > 0 ? context : null,
      remarks: [
        ...remarks,
        ...(blocks.length > 0 ? [`${file}: blocks of ${blocks.join(', ')} are read as float32`] : []),
      ],
      provenance: null,
      tensors: new MappedSource(source, placements),
    };
  } catch (error) {
    source.close();
    throw error;
  }
}

/** llama.cpp's numbers for the type of most tensors (llama.h, llama_ftype). */
const FILE_TYPES = { F32: 0, F16: 1, Q8_0: 7, BF16: 32 } as const;
type Written = keyof typeof WRITTEN_TYPES;

/** The type of a tensor: vectors are float32, as llama.cpp wants them, and rows that blocks do not fill are float16. */
function writtenType({ dtype, quantization }: WriteOptions): (info: TensorInfo) => Written {
  return ({ dtype: stored, shape }) => {
    if (shape.length === 1) return 'F32';
    if (quantization === 'Q8_0') return (shape[1] ?? 0) % 32 === 0 ? 'Q8_0' : 'F16';
    const type = dtype ?? stored;
    if (type === 'F32' || type === 'F16' || type === 'BF16') return type;
    throw new UsageError(
      `GGUF holds no tensors of type ${type} that llama.cpp computes with: choose one by --dtype`,
    );
  };
}

function entriesOf(config: TransformerConfig, { tensors }: Checkpoint, options: WriteOptions): GgufEntry[] {
  const typeOf = writtenType(options);
  const permuted = new MappedSource(tensors, placementsOf(config, 'interleaved'));
  const type = (info: TensorInfo): DataType => (typeOf(info) === 'Q8_0' ? 'F32' : (typeOf(info) as DataType));
  const copied = copyEntries(permuted, type, (name) => name).map((entry) => ({
    entry: { ...entry, name: ggufName(entry.name) },
    type: typeOf(tensors.info(entry.name)),
  }));
  const factors = ropeFactors(config);
  if (factors === null) return copied;
  const entry: TensorEntry = { name: ROPE_FACTORS, dtype: 'F32', shape: [factors.length], data: factors };
  return [...copied, { entry, type: 'F32' }];
}

export const ggufFormat: CheckpointFormat = {
  name: 'gguf',
  description: 'a GGUF file of Llama, Qwen 2 or Qwen 3 architecture, as llama.cpp reads it',
  detect: (path) => ggufIn(path) !== undefined,
  open,
  async write(directory, checkpoint, options) {
    const config = requireKnownToGguf(checkpoint.config);
    const { context } = checkpoint;
    if (context === null) {
      throw new UsageError(
        'the source does not say for how many tokens the model was made, which GGUF needs: give --context',
      );
    }
    const entries = entriesOf(config, checkpoint, options);
    const matrix = entries.find(({ entry }) => entry.shape.length > 1)?.type ?? 'F32';
    const fields: GgufField[] = [
      ...ggufFields(config, context),
      { key: 'general.file_type', type: 'u32', value: FILE_TYPES[matrix] },
      { key: 'general.quantization_version', type: 'u32', value: 2 },
      ...(await tokenizerFields(checkpoint)),
    ];
    await writeGguf(join(directory, GGUF_FILE), fields, entries);
  },
};
