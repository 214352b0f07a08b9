import { RunError } from '../errors.js';
import {
  bytesPerElement,
  decodeValues,
  elementCount,
  encodeValues,
  isFloating,
  widenFloats,
} from './data-type.js';
import type { DataType, TensorValues } from './data-type.js';
import { quote } from './files.js';

/** Bytes moved at a time: much for a disk, little beside a model, and a whole number of elements of every type. */
export const PIECE_BYTES = 2 * 2 ** 20;

export interface TensorInfo {
  readonly dtype: DataType;
  readonly shape: readonly number[];
}

/** Named tensors in a file or a set of files, read when they are asked for: nothing is held but the index. */
export abstract class TensorSource {
  /** The file or directory, as errors name it. */
  abstract get path(): string;
  abstract names(): readonly string[];
  abstract has(name: string): boolean;
  /** Throws `RunError` where there is no such tensor. */
  abstract info(name: string): TensorInfo;
  /**
   * Fills `target` with stored bytes of a tensor (little-endian, row-major) from byte `offset` on. Both are whole
   * numbers of elements. Throws `RunError` where the tensor ends before.
   */
  abstract readInto(name: string, offset: number, target: Uint8Array): void;
  abstract close(): void;

  /** The stored bytes in pieces: what a bit-exact copy needs. Each is a part of `scratch`, which the next overwrites. */
  *pieces(name: string, scratch: Uint8Array): Generator<Uint8Array> {
    const total = storedBytes({ name, ...this.info(name) });
    for (let offset = 0; offset < total; offset += scratch.byteLength) {
      const piece = scratch.subarray(0, Math.min(scratch.byteLength, total - offset));
      this.readInto(name, offset, piece);
      yield piece;
    }
  }

  /** All stored bytes of a tensor, in a fresh buffer. */
  readBytes(name: string): Uint8Array {
    const bytes = new Uint8Array(storedBytes({ name, ...this.info(name) }));
    this.readInto(name, 0, bytes);
    return bytes;
  }

  /** Values in row-major order, in a fresh buffer; F16 and BF16 are widened to float32. */
  read(name: string): TensorValues {
    return decodeValues(this.readBytes(name), this.info(name).dtype);
  }

  /**
   * A tensor of any floating-point type as float32, rounding float64.
   * @param out is filled from its beginning; it must have room for all elements
   * @param scratch holds a piece of the stored bytes where they are of another type
   * @returns the part of `out` that was filled
   * @throws RunError for integers and booleans, which are no parameters
   */
  readFloats(name: string, out: Float32Array, scratch: Uint8Array): Float32Array {
    const { dtype, shape } = this.info(name);
    if (!isFloating(dtype)) {
      throw new RunError(`${this.path}: tensor ${quote(name)} holds ${dtype}, expected floating point`);
    }
    const values = out.subarray(0, elementCount(shape) ?? 0);
    if (dtype === 'F32') {
      this.readInto(name, 0, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      return values;
    }
    let done = 0;
    for (const piece of this.pieces(name, scratch)) {
      done += widenFloats(piece, dtype, values.subarray(done)).length;
    }
    return values;
  }
}

/** Stored bytes that come in pieces; the next may overwrite the one before. */
export interface TensorPieces {
  readonly pieces: () => Iterable<Uint8Array>;
}

/** A tensor to be written. */
export interface TensorEntry extends TensorInfo {
  readonly name: string;
  /**
   * The values, or a function that gives them when their turn comes, so that only one tensor is in memory at a time,
   * or their bytes in pieces. `Uint8Array` is taken as stored bytes of any type; other arrays are converted by
   * `encodeValues`.
   */
  readonly data: TensorValues | (() => TensorValues | Promise<TensorValues>) | TensorPieces;
}

/** Bytes a tensor takes; throws `RunError` for a shape that is none. */
export function storedBytes({ name, dtype, shape }: TensorInfo & { readonly name: string }): number {
  const count = elementCount(shape);
  if (count === undefined) throw new RunError(`tensor ${quote(name)}: [${shape.join(', ')}] is not a shape`);
  return count * bytesPerElement(dtype);
}

/**
 * The bytes to store for an entry, in pieces of which each must be used before the next is taken.
 * @throws RunError where the values are not as many as the shape says
 */
export async function* entryPieces(entry: TensorEntry): AsyncGenerator<Uint8Array> {
  const { name, dtype, shape, data } = entry;
  const expected = storedBytes(entry);
  let given = 0;
  for (const piece of 'pieces' in data ? data.pieces() : [await encodeWhole(data, dtype)]) {
    given += piece.byteLength;
    if (given > expected) break;
    yield piece;
  }
  if (given === expected) return;
  throw new RunError(
    `tensor ${quote(name)}: ${given} bytes of values where ${dtype} [${shape.join(', ')}] takes ${expected}`,
  );
}

async function encodeWhole(
  data: Exclude<TensorEntry['data'], TensorPieces>,
  dtype: DataType,
): Promise<Uint8Array> {
  const values = typeof data === 'function' ? await data() : data;
  return values instanceof Uint8Array ? values : encodeValues(values, dtype);
}
