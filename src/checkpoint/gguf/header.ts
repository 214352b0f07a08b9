/**
 * The header of a GGUF file: magic, version, counts, metadata and the list of tensors.
 * Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { RunError } from '../../errors.js';
import { areSizes, elementCount } from '../data-type.js';
import { quote } from '../files.js';
import { BYTE_TYPES, ggmlType, type GgmlType } from './types.js';

/** A vocabulary of a quarter of a million tokens with its merges takes 20 MB. */
const MAX_HEADER_BYTES = 64 * 2 ** 20;
const MAX_ALIGNMENT = 2 ** 16;
const DEFAULT_ALIGNMENT = 32;

export type GgufArray = readonly string[] | ArrayLike<number>;
/** 64-bit integers are numbers, inexact beyond 2^53. */
export type GgufValue = number | boolean | string | GgufArray;

/** A value as errors show it. */
export function shown(value: GgufValue | undefined): string {
  if (value === undefined) return 'not said';
  return typeof value === 'object' ? 'a list' : quote(String(value));
}

export type GgufMetadata = ReadonlyMap<string, GgufValue>;

export interface GgufTensor {
  readonly type: GgmlType;
  /** Row-major: the reverse of the order in the file. */
  readonly shape: readonly number[];
  /** First byte in the file, and the byte after the last. */
  readonly begin: number;
  readonly end: number;
}

export interface GgufHeader {
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** Gives bytes of a file; throws `RunError` where it ends before. */
export type ReadBytes = (position: number, length: number) => Uint8Array;

const WINDOW = 2 ** 20;

/** Reads one value after the other, through a window on the file. */
class Cursor {
  position = 0;
  private window: DataView = new DataView(new ArrayBuffer(0));
  private start = 0;

  constructor(
    private readonly path: string,
    private readonly read: ReadBytes,
    private readonly size: number,
  ) {}

  /** @throws RunError where the file, or what a header may take, ends before */
  require(bytes: number, what: string): void {
    if (this.position + bytes > this.size) {
      throw new RunError(
        `${this.path}: truncated: ${what} ends at byte ${this.position + bytes} of ${this.size}`,
      );
    }
    if (this.position + bytes > MAX_HEADER_BYTES) {
      throw new RunError(`${this.path}: its header is longer than ${MAX_HEADER_BYTES} bytes`);
    }
  }

  bytes(length: number, what: string): Uint8Array {
    const view = this.view(length, what);
    return new Uint8Array(view.buffer, view.byteOffset, length);
  }

  /** A view of the next `length` bytes, which are taken. */
  view(length: number, what: string): DataView {
    this.require(length, what);
    if (this.position + length > this.start + this.window.byteLength) {
      const bytes = this.read(this.position, Math.min(Math.max(WINDOW, length), this.size - this.position));
      this.start = this.position;
      this.window = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    const at = this.position - this.start;
    this.position += length;
    return new DataView(this.window.buffer, this.window.byteOffset + at, length);
  }

  u32(what: string): number {
    return this.view(4, what).getUint32(0, true);
  }

  u64(what: string): number {
    return Number(this.view(8, what).getBigUint64(0, true));
  }

  text(what: string): string {
    const length = this.u64(what);
    this.require(length, what);
    return Buffer.from(this.bytes(length, what)).toString('utf8');
  }
}

type Scalar = readonly [bytes: number, read: (view: DataView) => number | boolean];

/** By the numbers that the format gives the types of metadata; 8 is a text, 9 a list. */
const SCALARS: Readonly<Record<number, Scalar>> = {
  0: [1, (view) => view.getUint8(0)],
  1: [1, (view) => view.getInt8(0)],
  2: [2, (view) => view.getUint16(0, true)],
  3: [2, (view) => view.getInt16(0, true)],
  4: [4, (view) => view.getUint32(0, true)],
  5: [4, (view) => view.getInt32(0, true)],
  6: [4, (view) => view.getFloat32(0, true)],
  7: [1, (view) => view.getUint8(0) !== 0],
  10: [8, (view) => Number(view.getBigUint64(0, true))],
  11: [8, (view) => Number(view.getBigInt64(0, true))],
  12: [8, (view) => view.getFloat64(0, true)],
};
const TEXT = 8;
const LIST = 9;

function readValue(cursor: Cursor, path: string, key: string, type: number): GgufValue {
  const what = `the value of ${quote(key)}`;
  if (type === TEXT) return cursor.text(what);
  if (type === LIST) return readList(cursor, path, key);
  const scalar = SCALARS[type];
  if (scalar === undefined) throw new RunError(`${path}: ${quote(key)} has a value of unknown type ${type}`);
  return scalar[1](cursor.view(scalar[0], what));
}

function readList(cursor: Cursor, path: string, key: string): GgufArray {
  const what = `the list ${quote(key)}`;
  const type = cursor.u32(what);
  const count = cursor.u64(what);
  if (type === TEXT) {
    // Each has at least its length.
    cursor.require(count * 8, what);
    return Array.from({ length: count }, () => cursor.text(what));
  }
  const scalar = SCALARS[type];
  if (scalar === undefined) throw new RunError(`${path}: ${quote(key)} is a list of unknown type ${type}`);
  const [width, read] = scalar;
  const view = cursor.view(count * width, what);
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    values[i] = Number(read(new DataView(view.buffer, view.byteOffset + i * width, width)));
  }
  return values;
}

function readMetadata(cursor: Cursor, path: string, count: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    const key = cursor.text(`the name of field ${i + 1}`);
    if (metadata.has(key)) throw new RunError(`${path}: the field ${quote(key)} occurs twice`);
    metadata.set(key, readValue(cursor, path, key, cursor.u32(`the type of ${quote(key)}`)));
  }
  return metadata;
}

interface Listed extends Omit<GgufTensor, 'begin' | 'end'> {
  readonly offset: number;
  readonly bytes: number;
}

function readTensor(cursor: Cursor, path: string, name: string): Listed {
  const what = `the entry of tensor ${quote(name)}`;
  const fail = (problem: string): never => {
    throw new RunError(`${path}: tensor ${quote(name)}: ${problem}`);
  };
  const rank = cursor.u32(what);
  if (rank < 1 || rank > 4) return fail(`it has ${rank} dimensions, expected 1 to 4`);
  const sizes = Array.from({ length: rank }, () => cursor.u64(what));
  const type = ggmlType(cursor.u32(what));
  if (typeof type === 'string')
    return fail(`${type} (read: ${BYTE_TYPES.map((one) => one.name).join(', ')})`);
  const offset = cursor.u64(what);
  const count = elementCount(sizes);
  if (count === undefined || !areSizes([offset])) return fail('its sizes or its offset are beyond 2^53');
  const [row = 0] = sizes;
  if (row % type.elements !== 0) {
    return fail(`its rows of ${row} are no multiple of ${type.elements}, a block of ${type.name}`);
  }
  return { type, shape: sizes.reverse(), offset, bytes: (count / type.elements) * type.bytes };
}

/** Tensors follow one another without overlaps, each from a multiple of the alignment on. */
function place(
  path: string,
  listed: ReadonlyMap<string, Listed>,
  { dataStart, size, alignment }: { dataStart: number; size: number; alignment: number },
): Map<string, GgufTensor> {
  const placed = new Map<string, GgufTensor>();
  let free = 0;
  for (const [name, { type, shape, offset, bytes }] of [...listed].sort(
    ([, a], [, b]) => a.offset - b.offset,
  )) {
    const expected = Math.ceil(free / alignment) * alignment;
    if (offset !== expected) {
      const what = offset < free ? 'overlaps another' : `does not follow the one before it`;
      throw new RunError(
        `${path}: tensor ${quote(name)} ${what}: byte ${offset} of the data, expected ${expected}`,
      );
    }
    free = offset + bytes;
    if (dataStart + free > size) {
      throw new RunError(
        `${path}: truncated: tensor ${quote(name)} ends at byte ${dataStart + free}, the file has ${size}`,
      );
    }
    placed.set(name, { type, shape, begin: dataStart + offset, end: dataStart + free });
  }
  if (placed.size > 0 && size - dataStart >= Math.ceil(free / alignment) * alignment + alignment) {
    throw new RunError(`${path}: the last ${size - dataStart - free} bytes of the file belong to no tensor`);
  }
  return placed;
}

function alignmentOf(path: string, metadata: GgufMetadata): number {
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
  const isPower = typeof alignment === 'number' && Number.isInteger(Math.log2(alignment));
  if (isPower && alignment >= 1 && alignment <= MAX_ALIGNMENT) return alignment;
  throw new RunError(`${path}: general.alignment is ${shown(alignment)}, expected a power of two`);
}

/**
 * Parses and checks the header of a file of `size` bytes.
 * @throws RunError naming field or tensor where anything is not as the format says
 */
export function parseGguf(path: string, read: ReadBytes, size: number): GgufHeader {
  const cursor = new Cursor(path, read, size);
  const magic = size < 8 ? '' : Buffer.from(cursor.bytes(4, 'the header')).toString('latin1');
  if (magic !== 'GGUF') throw new RunError(`${path}: not a GGUF file`);
  const version = cursor.u32('the header');
  if (version !== 2 && version !== 3) {
    throw new RunError(
      `${path}: GGUF of version ${version}, or big-endian; versions 2 and 3, little-endian, are read`,
    );
  }
  const [tensorCount, fieldCount] = [cursor.u64('the header'), cursor.u64('the header')];
  // The shortest entry of a tensor has 32 bytes, of a field 13.
  cursor.require(tensorCount * 32, `the list of ${tensorCount} tensors`);
  cursor.require(fieldCount * 13, `the list of ${fieldCount} fields`);
  const metadata = readMetadata(cursor, path, fieldCount);
  const listed = new Map<string, Listed>();
  for (let i = 0; i < tensorCount; i++) {
    const name = cursor.text(`the name of tensor ${i + 1}`);
    if (listed.has(name)) throw new RunError(`${path}: the tensor ${quote(name)} occurs twice`);
    listed.set(name, readTensor(cursor, path, name));
  }
  const alignment = alignmentOf(path, metadata);
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  return { metadata, tensors: place(path, listed, { dataStart, size, alignment }) };
}
