/**
 * How a cache stores keys and values. A compressed cache divides the positions into groups of 64. A query sees the keys and
 * values of its own group as the engine computed them, and those of earlier groups as they are coded: so what it sees does
 * not depend on how a prompt is cut into chunks.
 *
 * - `float16` and `bfloat16`: every element rounded.
 * - `float8`: e4m3 (OCP 8-bit floating point) times a factor of each group and head, for keys and for values.
 * - `int8` and `int4`: as KIVI (arXiv 2402.02750) codes them: keys by a scale and a minimum for each channel of a group, values by
 *   one of each for every position of a head.
 */
import { UsageError } from '../../errors.js';

export const CACHE_TYPES = ['float32', 'bfloat16', 'float16', 'float8', 'int8', 'int4'] as const;
export type CacheType = (typeof CACHE_TYPES)[number];

/** Positions of a group. */
export const GROUP = 64;
/** Positions of which a compressed cache keeps the keys and values as computed: the newest group and the one before it. */
export const RECENT = 2 * GROUP;
/** Widths of heads that a compressed cache takes are multiples of it. */
const WIDTH_STEP = 8;

const BITS: Readonly<Record<CacheType, number>> = {
  float32: 32,
  bfloat16: 16,
  float16: 16,
  float8: 8,
  int8: 8,
  int4: 4,
};

/** Words of 32 bits in which codes and scales are stored, of one head. */
export interface CodeWords {
  /** Codes of a position, of keys and of values each. */
  readonly codes: number;
  /** Scales of the keys of a group. */
  readonly keyScales: number;
  /** Scales of the values of a group. */
  readonly valueScales: number;
}

/** @throws UsageError for a width of heads that cannot be coded */
export function codeWords(type: CacheType, headDim: number): CodeWords {
  if (headDim % WIDTH_STEP !== 0) {
    throw new UsageError(
      `keys and values in ${type} need heads of a width that is a multiple of ${WIDTH_STEP}, not ${headDim}: leave out --kv-dtype`,
    );
  }
  const codes = (headDim * BITS[type]) / 32;
  if (type === 'int8' || type === 'int4') return { codes, keyScales: headDim, valueScales: GROUP };
  const scales = type === 'float8' ? 1 : 0;
  return { codes, keyScales: scales, valueScales: scales };
}

/** What keys and values of one head take in a cache. */
export interface CacheBytes {
  /** Of a position, scales included. */
  readonly perPosition: number;
  /** Of the newest positions, which are kept as computed beside their codes. */
  readonly recent: number;
}

/**
 * @param type of the cache
 * @param elementBytes of the engine's own storage
 * @param isCompressed whether the type is another than the engine's own
 */
export function cacheBytes(
  type: CacheType,
  headDim: number,
  elementBytes: number,
  isCompressed: boolean,
): CacheBytes {
  if (!isCompressed) return { perPosition: 2 * headDim * elementBytes, recent: 0 };
  const { codes, keyScales, valueScales } = codeWords(type, headDim);
  return {
    perPosition: 4 * (2 * codes + (keyScales + valueScales) / GROUP),
    recent: 2 * RECENT * headDim * elementBytes,
  };
}

/** The type of caches that are made without naming one: what the engine was started with; null: its own storage. */
export const cacheDefaults: { type: CacheType | null } = { type: null };
