/** Floating-point numbers of 16 and 8 bits, as bit patterns. */

const word = new Float32Array(1);
const bits = new Uint32Array(word.buffer);

/** How a number that lies between two others is rounded: to the nearest (ties to even), or never above it. */
export type Rounding = 'nearest' | 'down';

const INFINITE = 0x7c00;

/** IEEE 754 binary16; numbers beyond its range become infinite, rounded down the positive ones its largest. */
export function toFloat16(x: number, rounding: Rounding = 'nearest'): number {
  if (Number.isNaN(x)) return 0x7e00;
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(x);
  if (magnitude === Infinity) return sign | INFINITE;
  const half = magnitudeBits(magnitude);
  if (rounding === 'nearest') return sign | half;
  const rounded = halfValue(half);
  if (sign === 0) return rounded > magnitude ? half - 1 : half;
  return sign | (rounded < magnitude ? half + 1 : half);
}

/** A magnitude in steps of its binade, rounded to the nearest; a carry reaches the exponent by itself. */
function magnitudeBits(magnitude: number): number {
  if (magnitude >= 65520) return INFINITE;
  if (magnitude < 2 ** -14) return roundToEven(magnitude * 2 ** 24);
  const exponent = Math.floor(Math.log2(magnitude));
  const biased = 2 ** exponent > magnitude ? exponent - 1 : exponent;
  return ((biased + 15) << 10) + roundToEven((magnitude / 2 ** biased - 1) * 1024);
}

function roundToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

function halfValue(half: number): number {
  const exponent = half >> 10;
  const mantissa = half & 1023;
  if (exponent === 31) return mantissa === 0 ? Infinity : NaN;
  return exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25);
}

let halves: Float32Array | undefined;

export function fromFloat16(half: number): number {
  halves ??= Float32Array.from({ length: 65536 }, (_, i) => (i & 0x8000 ? -1 : 1) * halfValue(i & 0x7fff));
  return halves[half] as number;
}

/** The smallest float16 of at least (high - low) / levels. */
export function scaleUp(high: number, low: number, levels: number): number {
  const step = (high - low) / levels;
  const half = toFloat16(step);
  return fromFloat16(half) < step ? half + 1 : half;
}

/** The upper half of a float32, rounded to the nearest. */
export function toBfloat16(x: number): number {
  word[0] = x;
  const all = bits[0] as number;
  if (Number.isNaN(x)) return 0x7fc0;
  return (all + 0x7fff + ((all >>> 16) & 1)) >>> 16;
}

export const LARGEST_FLOAT8 = 448;

/** OCP e4m3 (no infinities, one NaN); numbers beyond its range become the largest. */
export function toFloat8(x: number): number {
  if (Number.isNaN(x)) return 0x7f;
  const sign = x < 0 ? 0x80 : 0;
  const magnitude = Math.min(LARGEST_FLOAT8, Math.abs(x));
  if (magnitude < 2 ** -6) return sign | roundToEven(magnitude * 2 ** 9);
  const exponent = Math.floor(Math.log2(magnitude));
  const biased = 2 ** exponent > magnitude ? exponent - 1 : exponent;
  return sign | (((biased + 7) << 3) + roundToEven((magnitude / 2 ** biased - 1) * 8));
}

let bytes: Float32Array | undefined;

export function fromFloat8(byte: number): number {
  bytes ??= Float32Array.from({ length: 256 }, (_, i) => {
    const [sign, exponent, mantissa] = [i & 0x80 ? -1 : 1, (i >> 3) & 15, i & 7];
    if (exponent === 15 && mantissa === 7) return NaN;
    return sign * (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10));
  });
  return bytes[byte] as number;
}
