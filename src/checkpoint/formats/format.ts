import type { TokenIds } from '../../data/tokenizers/conventions.js';
import type { ModelConfig } from '../../model/config.js';
import type { Json } from '../../results/canonical.js';
import type { DataType } from '../data-type.js';
import { bytesPerElement, isFloating, narrowFloats, widenFloats } from '../data-type.js';
import { PIECE_BYTES } from '../tensor-source.js';
import type { TensorEntry, TensorInfo, TensorSource } from '../tensor-source.js';

export const FORMAT_NAMES = ['yoco', 'official', 'huggingface', 'fla', 'meta', 'gguf'] as const;
export type FormatName = (typeof FORMAT_NAMES)[number];

/** What every checkpoint says, whatever its format. */
export interface Checkpoint {
  readonly config: ModelConfig;
  /** What `loadTokenizer` takes: a name, or the path of a `tokenizer.json`; null where the checkpoint does not say. */
  readonly tokenizer: string | null;
  /** Ids that the files beside the weights name: begin, end and padding; absent where nothing was read. */
  readonly tokens?: TokenIds;
  /** The longest sequence the model was trained on, in tokens; null where unknown. */
  readonly context: number | null;
  /** What the files leave open, and what was taken instead: for the person who uses the checkpoint. */
  readonly remarks?: readonly string[];
  /** How the weights came about, for whoever finds them: free-form. */
  readonly provenance: Json;
  /** The parameters under our names, checked against the configuration. */
  readonly tensors: TensorSource;
}

export interface WriteOptions {
  /** Floating-point type to store; by default each tensor keeps its own. */
  readonly dtype?: DataType;
  /** Blocks of few bits in place of a type: `gguf` only. */
  readonly quantization?: 'Q8_0';
  readonly maxShardBytes?: number;
}

export interface CheckpointFormat {
  readonly name: FormatName;
  readonly description: string;
  /** Also of a path that is a file. */
  detect(path: string): boolean;
  /**
   * @param stateDict which of several state dicts in one file to take, for layouts that may hold several
   * @throws RunError where a file is missing or damaged or does not fit the configuration
   */
  open(directory: string, stateDict?: string): Checkpoint;
  readonly hasStateDicts?: boolean;
  /** Writes into an empty directory. @throws RunError, UsageError where the format cannot express the model */
  write(directory: string, checkpoint: Checkpoint, options: WriteOptions): Promise<void>;
}

/**
 * Entries that copy tensors piece by piece: bytes as they are, or rounded to `dtype`, which may differ from tensor to tensor. All share one set of buffers, so
 * that they must be written one after another.
 * @param rename gives the name to write under
 */
export function copyEntries(
  tensors: TensorSource,
  dtype: DataType | undefined | ((info: TensorInfo) => DataType),
  rename: (name: string) => string = (name) => name,
): TensorEntry[] {
  const scratch = new Uint8Array(PIECE_BYTES);
  const converter = new FloatConverter();
  return tensors.names().map((name) => {
    const { dtype: stored, shape } = tensors.info(name);
    const wanted = typeof dtype === 'function' ? dtype({ dtype: stored, shape }) : dtype;
    const target = isFloating(stored) ? (wanted ?? stored) : stored;
    const pieces = (): Iterable<Uint8Array> =>
      target === stored
        ? tensors.pieces(name, scratch)
        : converter.convert(tensors.pieces(name, scratch), stored, target);
    return { name: rename(name), shape, dtype: target, data: { pieces } };
  });
}

/** Changes the floating-point type of pieces, in buffers that the next piece overwrites. */
class FloatConverter {
  private floats = new Float32Array();
  private bytes = new Uint8Array();

  *convert(pieces: Iterable<Uint8Array>, from: DataType, to: DataType): Generator<Uint8Array> {
    for (const piece of pieces) {
      const count = piece.byteLength / bytesPerElement(from);
      if (this.floats.length < count) this.floats = new Float32Array(count);
      const size = count * bytesPerElement(to);
      if (this.bytes.length < size) this.bytes = new Uint8Array(size);
      yield narrowFloats(widenFloats(piece, from, this.floats), to, this.bytes);
    }
  }
}
