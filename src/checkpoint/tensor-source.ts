import type { DataType, TensorValues } from './data-type.js';

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
