import { RunError } from '../errors.js';

/** Element types by their safetensors names; the same names are used for tensors from torch archives. */
export type DataType =
  'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U64' | 'U32' | 'U16' | 'U8' | 'BOOL';

/** What reading a tensor gives: 16-bit floats widened to float32, everything else in its own width. */
export type TensorValues =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

const BYTES_PER_ELEMENT: Readonly<Record<DataType, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
};

export const DATA_TYPES = Object.keys(BYTES_PER_ELEMENT) as readonly DataType[];

export function isDataType(name: unknown): name is DataType {
  return typeof name === 'string' && Object.hasOwn(BYTES_PER_ELEMENT, name);
}

export function bytesPerElement(dtype: DataType): number {
  return BYTES_PER_ELEMENT[dtype];
}

/** Whether values of this type are floating point: what a model's parameter may be stored as. */
export function isFloating(dtype: DataType): boolean {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16' || dtype === 'F64';
}

/** Whether all values are sizes: whole numbers from 0 up that are exact. */
export function areSizes(values: readonly unknown[]): values is readonly number[] {
  return values.every((value) => Number.isSafeInteger(value) && (value as number) >= 0);
}

/** Number of elements of a shape; `undefined` where it is not a shape or the count is beyond 2^53. */
export function elementCount(shape: readonly unknown[]): number | undefined {
  if (!areSizes(shape)) return undefined;
  const count = shape.reduce((product, size) => product * size, 1);
  return Number.isSafeInteger(count) ? count : undefined;
}

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

/** The bit pattern of a value rounded to float32. */
function bitsOf(value: number): number {
  scratchFloat[0] = value;
  return scratchBits[0] ?? 0;
}

/** The float32 with this IEEE binary16 bit pattern, exactly. */
export function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

let halfTable: Float32Array | undefined;

/** All 65,536 half-precision values: a look-up is ten times faster than computing each element. */
function halfValues(): Float32Array {
  halfTable ??= Float32Array.from({ length: 65536 }, (_, bits) => halfToFloat(bits));
  return halfTable;
}

/** `value / 2^shift` rounded to the nearest integer, ties to even; `value` is a non-negative 32-bit integer. */
function shiftRightToEven(value: number, shift: number): number {
  const quotient = value >>> shift;
  const rest = value & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && (quotient & 1) === 1) ? quotient + 1 : quotient;
}

/** Binary16 bit pattern nearest to a float32, ties to even; beyond the range becomes infinity. */
export function floatToHalf(value: number): number {
  return halfOfBits(bitsOf(value));
}

function halfOfBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  const exponent = (magnitude >>> 23) - 127;
  if (exponent > 15) return sign | 0x7c00;
  // Rounding may carry into the exponent, which is right: the encoding is monotonic.
  if (exponent >= -14) return sign | shiftRightToEven(magnitude - (112 << 23), 13);
  if (exponent < -25) return sign;
  return sign | shiftRightToEven((magnitude & 0x7fffff) | 0x800000, -exponent - 1);
}

/** bfloat16 bit pattern nearest to a float32 of these bits, ties to even. */
function bfloatOfBits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) | 0x40) & 0xffff;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/**
 * Floating-point values of little-endian bytes as float32: exact, but for F64, which is rounded.
 * @param bytes start at a multiple of 8 in their buffer
 * @param out is filled from its beginning; the filled part is returned
 */
export function widenFloats(bytes: Uint8Array, dtype: DataType, out: Float32Array): Float32Array {
  const { buffer, byteOffset } = bytes;
  const count = bytes.byteLength / bytesPerElement(dtype);
  const values = out.subarray(0, count);
  if (dtype === 'F16') {
    const table = halfValues();
    const halves = new Uint16Array(buffer, byteOffset, count);
    for (let i = 0; i < count; i++) values[i] = table[halves[i] ?? 0] ?? 0;
  } else if (dtype === 'BF16') {
    const bits = new Uint32Array(values.buffer, values.byteOffset, count);
    const halves = new Uint16Array(buffer, byteOffset, count);
    for (let i = 0; i < count; i++) bits[i] = (halves[i] ?? 0) << 16;
  } else if (dtype === 'F64') {
    values.set(new Float64Array(buffer, byteOffset, count));
  } else {
    values.set(new Float32Array(buffer, byteOffset, count));
  }
  return values;
}

/**
 * The little-endian bytes of float32 values in a floating-point type, rounded to nearest even.
 * @param out starts at a multiple of 8 in its buffer and is filled from its beginning; the filled part is returned
 */
export function narrowFloats(values: Float32Array, dtype: DataType, out: Uint8Array): Uint8Array {
  const { buffer, byteOffset } = out;
  const count = values.length;
  if (dtype === 'F16' || dtype === 'BF16') {
    const narrow = dtype === 'F16' ? halfOfBits : bfloatOfBits;
    const bits = new Uint32Array(values.buffer, values.byteOffset, count);
    const halves = new Uint16Array(buffer, byteOffset, count);
    for (let i = 0; i < count; i++) halves[i] = narrow(bits[i] ?? 0);
  } else if (dtype === 'F64') {
    new Float64Array(buffer, byteOffset, count).set(values);
  } else {
    new Float32Array(buffer, byteOffset, count).set(values);
  }
  return out.subarray(0, count * bytesPerElement(dtype));
}

/** Values of little-endian bytes. `bytes` must start at a multiple of 8 in its buffer (a fresh buffer does). */
export function decodeValues(bytes: Uint8Array, dtype: DataType): TensorValues {
  const { buffer, byteOffset } = bytes;
  const length = bytes.byteLength / bytesPerElement(dtype);
  switch (dtype) {
    case 'F64':
      return new Float64Array(buffer, byteOffset, length);
    case 'F32':
      return new Float32Array(buffer, byteOffset, length);
    case 'F16':
    case 'BF16':
      return widenFloats(bytes, dtype, new Float32Array(length));
    case 'I64':
      return new BigInt64Array(buffer, byteOffset, length);
    case 'U64':
      return new BigUint64Array(buffer, byteOffset, length);
    case 'I32':
      return new Int32Array(buffer, byteOffset, length);
    case 'U32':
      return new Uint32Array(buffer, byteOffset, length);
    case 'I16':
      return new Int16Array(buffer, byteOffset, length);
    case 'U16':
      return new Uint16Array(buffer, byteOffset, length);
    case 'I8':
      return new Int8Array(buffer, byteOffset, length);
    case 'U8':
    case 'BOOL':
      return new Uint8Array(buffer, byteOffset, length);
  }
}

function rawBytes(values: TensorValues): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

const ARRAY_NAMES: Readonly<Record<DataType, string>> = {
  F64: 'Float64Array',
  F32: 'Float32Array',
  F16: 'Float32Array',
  BF16: 'Float32Array',
  I64: 'BigInt64Array',
  I32: 'Int32Array',
  I16: 'Int16Array',
  I8: 'Int8Array',
  U64: 'BigUint64Array',
  U32: 'Uint32Array',
  U16: 'Uint16Array',
  U8: 'Uint8Array',
  BOOL: 'Uint8Array',
};

/**
 * Little-endian bytes of `values` stored as `dtype`: the inverse of `decodeValues`. Float32 values are rounded to
 * nearest even for F16 and BF16 (exact where they came from that type); any other change of type is an error.
 */
export function encodeValues(values: TensorValues, dtype: DataType): Uint8Array {
  if (values.constructor.name !== ARRAY_NAMES[dtype]) {
    throw new RunError(
      `cannot store a ${values.constructor.name} as ${dtype} (it takes ${ARRAY_NAMES[dtype]})`,
    );
  }
  if (!(values instanceof Float32Array) || dtype === 'F32') return rawBytes(values);
  return narrowFloats(values, dtype, new Uint8Array(values.length * bytesPerElement(dtype)));
}

/** Values as float32, rounding float64; integers and booleans are refused since they are no parameters. */
export function toFloat32(values: TensorValues): Float32Array {
  if (values instanceof Float32Array) return values;
  if (values instanceof Float64Array) return Float32Array.from(values);
  throw new RunError(`a ${values.constructor.name} does not hold floating-point values`);
}
