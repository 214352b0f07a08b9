/** How far results of 16-bit or float32 kernels may be from those of the plain backend. */
import type { StorageType } from '../../src/engines/engine.js';

/**
 * Largest relative error ‖out − reference‖ / ‖reference‖ that a storage type may cause in one op or its gradient. On Hopper the
 * largest are 1.1e-6, 5.7e-3 and 9e-4.
 */
export const TOLERANCE: Readonly<Record<StorageType, number>> = {
  float32: 1e-5,
  bfloat16: 1e-2,
  float16: 2e-3,
};

/** What a row may be off by, in units of the tolerance of the whole: errors of a few values do not average out. */
export const ROW_FACTOR = 4;

/**
 * Rows whose norm is below this share of a typical one are held to the share: what sums to almost nothing has the errors of
 * what was summed. Of attention, where a query all but sees one key: the rounding of its output alone moves dQ by 1 % of a
 * typical row, which is then a tenth of its own.
 */
const LEAST_SHARE = 0.5;

/** ‖actual − expected‖² and ‖expected‖² of a range; infinities that agree count as zeros. */
function squares(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  start: number,
  end: number,
): { difference: number; norm: number } {
  let [difference, norm] = [0, 0];
  for (let i = start; i < end; i++) {
    const [a, e] = [actual[i] ?? NaN, expected[i] ?? NaN];
    if (a !== e) difference += (a - e) ** 2;
    if (a !== e || Number.isFinite(e)) norm += e ** 2;
  }
  return { difference, norm };
}

const ratio = (difference: number, norm: number): number =>
  difference === 0 ? 0 : Math.sqrt(difference / Math.max(norm, 1e-30));

/** ‖actual − expected‖ / ‖expected‖; NaN where only one of them is finite, or they differ in size. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return NaN;
  const { difference, norm } = squares(actual, expected, 0, expected.length);
  return ratio(difference, norm);
}

/** The largest error of a row of `width` values, relative to its own norm, or to a share of the typical one. */
export function worstRowError(actual: ArrayLike<number>, expected: ArrayLike<number>, width: number): number {
  const rows = expected.length / width;
  const least = (LEAST_SHARE ** 2 * squares(actual, expected, 0, expected.length).norm) / rows;
  let worst = 0;
  for (let start = 0; start < expected.length; start += width) {
    const { difference, norm } = squares(actual, expected, start, start + width);
    const error = ratio(difference, Math.max(norm, least));
    if (!(error <= worst)) worst = error;
    if (Number.isNaN(worst)) return worst;
  }
  return worst;
}
