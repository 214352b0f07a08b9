/** Coding of keys and values, in plain loops: what kernels are held to. `cache-type.ts` describes the types. */
import { codeWords, GROUP, type CacheType } from './cache-type.js';
import {
  fromFloat16,
  fromFloat8,
  toBfloat16,
  toFloat16,
  toFloat8,
  LARGEST_FLOAT8,
  scaleUp,
} from './small-floats.js';

/** Codes and scales of one group of a head. */
export interface GroupCodes {
  readonly codes: Int32Array;
  readonly scales: Int32Array;
}

export type Kind = 'key' | 'value';

const levelsOf = (type: CacheType): number => (type === 'int8' ? 255 : 15);

/**
 * Codes a group of rows [GROUP, D].
 * @param into [GROUP, codes] and the scales of a group, as `codeWords` counts them
 */
export function encodeGroup(type: CacheType, kind: Kind, rows: Float32Array, into: GroupCodes): void {
  const width = rows.length / GROUP;
  if (type === 'float16' || type === 'bfloat16') encodeHalves(type, rows, into.codes);
  else if (type === 'float8') encodeFloat8(rows, into);
  else encodeIntegers(type, kind, rows, width, into);
}

/** The inverse: rows [GROUP, D]. */
export function decodeGroup(
  type: CacheType,
  kind: Kind,
  { codes, scales }: GroupCodes,
  rows: Float32Array,
): void {
  const width = rows.length / GROUP;
  if (type === 'bfloat16') {
    const bits = new Uint32Array(rows.buffer, rows.byteOffset, rows.length);
    halvesOf(codes).forEach((half, i) => (bits[i] = half << 16));
  } else if (type === 'float16') {
    halvesOf(codes).forEach((half, i) => (rows[i] = fromFloat16(half)));
  } else if (type === 'float8') {
    const factor = floatsOf(scales)[0] as number;
    bytesOf(codes).forEach((byte, i) => (rows[i] = fromFloat8(byte) * factor));
  } else {
    const { scaleOf, minimumOf } = planes(kind, halvesOf(scales), width);
    const codeOf = codeReader(type, codes);
    for (let i = 0; i < rows.length; i++) {
      rows[i] = fromFloat16(minimumOf(i)) + fromFloat16(scaleOf(i)) * codeOf(i);
    }
  }
}

function encodeHalves(type: 'float16' | 'bfloat16', rows: Float32Array, codes: Int32Array): void {
  const halves = halvesOf(codes);
  const round = type === 'float16' ? toFloat16 : toBfloat16;
  for (let i = 0; i < rows.length; i++) halves[i] = round(rows[i] as number);
}

/** The factor is a power of two with which the largest element fits; scaling by it rounds nothing. */
function encodeFloat8(rows: Float32Array, { codes, scales }: GroupCodes): void {
  let largest = 0;
  for (const x of rows) largest = Math.max(largest, Math.abs(x));
  // A NaN or an infinity stays one.
  const exponent = Math.max(-100, Math.ceil(Math.log2(largest / LARGEST_FLOAT8)));
  const factor = Number.isFinite(largest) ? (largest === 0 ? 1 : 2 ** exponent) : NaN;
  floatsOf(scales)[0] = factor;
  const bytes = bytesOf(codes);
  for (let i = 0; i < rows.length; i++) bytes[i] = toFloat8((rows[i] as number) / factor);
}

/**
 * A code is the nearest step from the minimum. The minimum is rounded down and the scale up, so that no element is outside of
 * the steps: an element is off by at most half a step.
 */
function encodeIntegers(
  type: CacheType,
  kind: Kind,
  rows: Float32Array,
  width: number,
  { codes, scales }: GroupCodes,
): void {
  const levels = levelsOf(type);
  const halves = halvesOf(scales);
  const sets = kind === 'key' ? width : GROUP;
  const [size, step, stride] = kind === 'key' ? [GROUP, width, 1] : [width, 1, width];
  const { scaleAt, minimumAt } = planeIndices(kind, width);
  for (let set = 0; set < sets; set++) {
    let [low, high] = [Infinity, -Infinity];
    for (let i = 0; i < size; i++) {
      const x = rows[set * stride + i * step] as number;
      low = Math.min(low, x);
      high = Math.max(high, x);
    }
    const minimum = toFloat16(low, 'down');
    halves[minimumAt(set)] = minimum;
    halves[scaleAt(set)] = scaleUp(high, fromFloat16(minimum), levels);
  }
  codes.fill(0);
  const { scaleOf, minimumOf } = planes(kind, halves, width);
  const bytes = bytesOf(codes);
  for (let i = 0; i < rows.length; i++) {
    const scale = fromFloat16(scaleOf(i));
    const steps = scale > 0 ? Math.fround((rows[i] as number) - fromFloat16(minimumOf(i))) / scale : 0;
    const code = Math.max(0, Math.min(levels, Math.round(steps)));
    if (type === 'int8') bytes[i] = code ^ 0x80;
    else bytes[i >> 1] = (bytes[i >> 1] as number) | (code << (4 * (i & 1)));
  }
}

/** Codes as steps from the minimum. int8 is stored as a signed number, 128 lower; of two int4 the first is the low half of a byte. */
function codeReader(type: CacheType, codes: Int32Array): (i: number) => number {
  const bytes = bytesOf(codes);
  return type === 'int8'
    ? (i) => (bytes[i] as number) ^ 0x80
    : (i) => ((bytes[i >> 1] as number) >> (4 * (i & 1))) & 15;
}

/** Where scale and minimum of a set are: of keys all scales of a group and then all minima, of values side by side. */
function planeIndices(
  kind: Kind,
  width: number,
): { scaleAt: (set: number) => number; minimumAt: (set: number) => number } {
  return kind === 'key'
    ? { scaleAt: (set) => set, minimumAt: (set) => width + set }
    : { scaleAt: (set) => 2 * set, minimumAt: (set) => 2 * set + 1 };
}

/** Scale and minimum, in float16, of element i of the rows. */
function planes(
  kind: Kind,
  halves: Uint16Array,
  width: number,
): { scaleOf: (i: number) => number; minimumOf: (i: number) => number } {
  const { scaleAt, minimumAt } = planeIndices(kind, width);
  const setOf = kind === 'key' ? (i: number) => i % width : (i: number) => Math.floor(i / width);
  return {
    scaleOf: (i) => halves[scaleAt(setOf(i))] as number,
    minimumOf: (i) => halves[minimumAt(setOf(i))] as number,
  };
}

export const halvesOf = (words: Int32Array): Uint16Array =>
  new Uint16Array(words.buffer, words.byteOffset, 2 * words.length);
export const bytesOf = (words: Int32Array): Uint8Array =>
  new Uint8Array(words.buffer, words.byteOffset, 4 * words.length);
const floatsOf = (words: Int32Array): Float32Array =>
  new Float32Array(words.buffer, words.byteOffset, words.length);

/** Where group `index` of head `head` (of all sequences) lies in the tensors of a page of `pageGroups` groups. */
export function groupOf(
  type: CacheType,
  kind: Kind,
  { codes, scales }: GroupCodes,
  at: { readonly head: number; readonly group: number; readonly pageGroups: number; readonly width: number },
): GroupCodes {
  const words = codeWords(type, at.width);
  const perGroup = kind === 'key' ? words.keyScales : words.valueScales;
  const index = at.head * at.pageGroups + at.group;
  const part = (x: Int32Array, size: number): Int32Array => x.subarray(index * size, (index + 1) * size);
  return { codes: part(codes, GROUP * words.codes), scales: part(scales, perGroup) };
}
