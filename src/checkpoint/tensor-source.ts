import { RunError } from '../errors.js';
import { bytesPerElement, elementCount, encodeValues } from './data-type.js';
import type { DataType, TensorValues } from './data-type.js';
import { quote } from './files.js';

export interface TensorInfo {
  readonly dtype: DataType;
  readonly shape: readonly number[];
}

/** Named tensors in a file or a set of files, read one at a time: nothing is held but the index. */
export interface TensorSource {
  /** The file or directory, as errors name it. */
  readonly path: string;
  names(): readonly string[];
  has(name: string): boolean;
  /** Throws `RunError` where there is no such tensor. */
  info(name: string): TensorInfo;
  /** Values in row-major order; F16 and BF16 are widened to float32. */
  read(name: string): TensorValues;
  /** The stored bytes (little-endian, row-major): what a bit-exact copy needs. */
  readBytes(name: string): Uint8Array;
  close(): void;
}

/** A tensor to be written. */
export interface TensorEntry extends TensorInfo {
  readonly name: string;
  /**
   * The values, or a function that gives them when their turn comes, so that only one tensor is in memory at a time.
   * `Uint8Array` is taken as stored bytes of any type; other arrays are converted by `encodeValues`.
   */
  readonly data: TensorValues | (() => TensorValues | Promise<TensorValues>);
}

/** Bytes a tensor takes; throws `RunError` for a shape that is none. */
export function storedBytes({ name, dtype, shape }: TensorInfo & { readonly name: string }): number {
  const count = elementCount(shape);
  if (count === undefined) throw new RunError(`tensor ${quote(name)}: [${shape.join(', ')}] is not a shape`);
  return count * bytesPerElement(dtype);
}

/** The bytes to store for an entry; throws `RunError` where the values are not as many as the shape says. */
export async function encodeEntry(entry: TensorEntry): Promise<Uint8Array> {
  const { name, dtype, shape, data } = entry;
  const values = typeof data === 'function' ? await data() : data;
  const bytes = values instanceof Uint8Array ? values : encodeValues(values, dtype);
  const expected = storedBytes(entry);
  if (bytes.byteLength !== expected) {
    throw new RunError(
      `tensor ${quote(name)}: ${bytes.byteLength} bytes of values where ${dtype} [${shape.join(', ')}] takes ${expected}`,
    );
  }
  return bytes;
}
