/**
 * Matrices in float8 for products at inference. A row, the last dimension, is e4m3 (OCP 8-bit floating point) times a factor of the
 * row: the least power of two with which its largest element fits, so that scaling by it rounds nothing. Each row is rounded by itself,
 * so that no result depends on what else is computed beside it.
 */
import { RunError } from '../../errors.js';
import * as tf from '../../tf.js';
import { LARGEST_FLOAT8 } from '../attention/small-floats.js';
import { hasKernel, isRecordingGradient, runKernel } from '../dispatch.js';
import { suitsFloat8 } from './compute-type.js';

/** Below it the factor itself would be no normal float32. */
const LEAST_EXPONENT = -100;

const kept = new WeakSet<tf.Tensor>();

/**
 * Rounds the rows of a weight [out, in] to float8, in place. From then on the ops for products with weights round the rows of what they
 * multiply by it, too, and record no gradient. An engine may keep one byte an element. Values assigned later have to be rounded anew.
 * @throws RangeError for a weight that does not suit
 */
export function keepInFloat8(weight: tf.Variable): void {
  if (!suitsFloat8(weight)) {
    throw new RangeError(`a weight of shape [${weight.shape.join(', ')}] cannot be kept in float8`);
  }
  if (hasKernel('KeepFloat8')) runKernel('KeepFloat8', { weight }, {}, () => []);
  else {
    const rounded = roundedToFloat8(weight);
    weight.assign(rounded);
    rounded.dispose();
  }
  kept.add(weight);
}

/** Whether products with a weight are in float8. @throws RunError where a gradient is recorded: there is none */
export function isKeptInFloat8(weight: tf.Tensor): boolean {
  if (!kept.has(weight)) return false;
  if (isRecordingGradient()) throw new RunError('weights that are kept in float8 have no gradient');
  return true;
}

/** x, its rows rounded to float8. Records no gradient. */
export function roundedToFloat8<T extends tf.Tensor>(x: T): T {
  const [rounded] = runKernel('RoundFloat8', { x }, {}, () => [
    tf.tensor(roundRows(x.dataSync<'float32'>(), x.shape.at(-1) ?? 1), x.shape),
  ]);
  return rounded as T;
}

/** Rounds rows of `width` elements. A row with an element that is no finite number becomes NaN. */
export function roundRows(values: Float32Array, width: number): Float32Array {
  const rounded = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += width) {
    roundRow(values.subarray(start, start + width), rounded.subarray(start, start + width));
  }
  return rounded;
}

const EXPONENT = 0x7f800000;
const binade = new Float32Array(1);
const binadeBits = new Int32Array(binade.buffer);

function roundRow(row: Float32Array, rounded: Float32Array): void {
  const factor = rowFactor(row);
  if (Number.isNaN(factor)) {
    rounded.fill(NaN);
    return;
  }
  const bits = new Int32Array(row.buffer, row.byteOffset, row.length);
  // Below 2^-6 codes are as far apart as there.
  binade[0] = factor * 2 ** -6;
  const least = binadeBits[0] as number;
  for (let i = 0; i < row.length; i++) {
    binadeBits[0] = Math.max((bits[i] as number) & EXPONENT, least);
    // Codes are an eighth of the binade apart: added to 1.5 * 2^52 times that, a number is rounded to a multiple of it.
    const magic = binade[0] * (1.5 * 2 ** 49);
    rounded[i] = (row[i] as number) + magic - magic;
  }
}

/** The least power of two with which the largest magnitude is at most {@link LARGEST_FLOAT8}; 1 for zeros, NaN for what is not finite. */
function rowFactor(row: Float32Array): number {
  let largest = 0;
  for (const x of row) {
    const magnitude = Math.abs(x);
    if (!(magnitude < Infinity)) return NaN;
    if (magnitude > largest) largest = magnitude;
  }
  if (largest === 0) return 1;
  let exponent = Math.max(LEAST_EXPONENT, Math.floor(Math.log2(largest)) - 8);
  // The logarithm is rounded; e4m3 ends at 1.75 of its last power of two.
  while (exponent > LEAST_EXPONENT && largest <= LARGEST_FLOAT8 * 2 ** (exponent - 1)) exponent--;
  while (largest > LARGEST_FLOAT8 * 2 ** exponent) exponent++;
  return 2 ** exponent;
}
