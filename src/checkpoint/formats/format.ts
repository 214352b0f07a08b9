import type { ModelConfig } from '../../model/config.js';
import type { Json } from '../../results/canonical.js';
import type { DataType } from '../data-type.js';
import { isFloating } from '../data-type.js';
import type { TensorEntry, TensorSource } from '../tensor-source.js';

export const FORMAT_NAMES = ['yoco', 'official', 'huggingface', 'meta'] as const;
export type FormatName = (typeof FORMAT_NAMES)[number];

/** What every checkpoint says, whatever its format. */
export interface Checkpoint {
  readonly config: ModelConfig;
  /** What `loadTokenizer` takes: a name, or the path of a `tokenizer.json`; null where the checkpoint does not say. */
  readonly tokenizer: string | null;
  /** The longest sequence the model was trained on, in tokens; null where unknown. */
  readonly context: number | null;
  /** How the weights came about, for whoever finds them: free-form. */
  readonly provenance: Json;
  /** The parameters under our names, checked against the configuration. */
  readonly tensors: TensorSource;
}

export interface WriteOptions {
  /** Floating-point type to store; by default each tensor keeps its own. */
  readonly dtype?: DataType;
  readonly maxShardBytes?: number;
}

export interface CheckpointFormat {
  readonly name: FormatName;
  readonly description: string;
  detect(directory: string): boolean;
  /** @throws RunError where a file is missing or damaged or does not fit the configuration */
  open(directory: string): Checkpoint;
  /** Writes into an empty directory. @throws RunError, UsageError where the format cannot express the model */
  write(directory: string, checkpoint: Checkpoint, options: WriteOptions): Promise<void>;
}

/**
 * Entries that copy tensors one at a time: bytes as they are, or rounded to `dtype`.
 * @param rename gives the name to write under
 */
export function copyEntries(
  tensors: TensorSource,
  dtype: DataType | undefined,
  rename: (name: string) => string = (name) => name,
): TensorEntry[] {
  return tensors.names().map((name) => {
    const info = tensors.info(name);
    const convert = dtype !== undefined && dtype !== info.dtype && isFloating(info.dtype);
    return {
      name: rename(name),
      shape: info.shape,
      dtype: convert ? dtype : info.dtype,
      data: () => (convert ? asType(tensors, name, dtype) : tensors.readBytes(name)),
    };
  });
}

function asType(tensors: TensorSource, name: string, dtype: DataType): Float32Array | Float64Array {
  const values = tensors.read(name);
  if (dtype === 'F64') return Float64Array.from(values as Float32Array);
  return values instanceof Float32Array ? values : Float32Array.from(values as Float64Array);
}
