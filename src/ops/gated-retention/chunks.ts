/** What the forward and the backward composition of chunkwise gated retention share. */
import * as tf from '../../tf.js';
import { float32 } from '../float32.js';
import { sliceAxis } from '../reshape.js';
import type { RetentionInputs } from './gated-retention.js';

/**
 * A logarithm of a decay below this counts as this: exp of it is 0 in float32. So -Infinity, which forgets everything, has
 * finite sums, whose differences are no NaN, and strong decays take no digits from those that are summed with them.
 */
export const LEAST_LOG_DECAY = -104;

/** Exponent of a pair in the future: exp of it is 0. */
const NEVER = -1e30;

/**
 * A sequence cut into N chunks of C positions, padded with zeros (which neither decay nor add anything). The matrices
 * have M = B * H * N as their first dimension, the heads of a batch one after the other, each with its chunks in order.
 */
export interface Chunks {
  readonly batch: number;
  readonly heads: number;
  readonly time: number;
  /** N, C */
  readonly count: number;
  readonly size: number;
  readonly keyWidth: number;
  readonly valueWidth: number;
  /** [M, C, Dk], scaled */
  readonly queries: tf.Tensor3D;
  readonly keys: tf.Tensor3D;
  /** [M, C, Dv] */
  readonly values: tf.Tensor3D;
  /** exp(G_i - G_j) for i >= j, else 0, with G the cumulative sum of logDecay in the chunk: [M, C, C]. */
  readonly decays: tf.Tensor3D;
  /** exp(G): how much of the state before the chunk reaches a position, [M, C, 1]. */
  readonly fromStart: tf.Tensor3D;
  /** exp(G_C - G): how much of a position reaches the state after the chunk, [M, C, 1]. */
  readonly toEnd: tf.Tensor3D;
  /** exp(G_C): decay across the chunk, [B * H, N, 1]. */
  readonly across: tf.Tensor3D;
}

/**
 * The size of chunks: `chunkSize`, or the whole sequence if that is shorter.
 * @param scale factors of queries and keys; default: those of gated retention
 */
export function cutChunks(
  { q, k, v, logDecay }: Omit<RetentionInputs, 'state'>,
  chunkSize: number,
  scale: { readonly query: number; readonly key: number } = { query: 1, key: k.shape[3] ** -0.5 },
): Chunks {
  const [batch, time, heads, keyWidth] = q.shape;
  const valueWidth = v.shape[3];
  const size = Math.min(chunkSize, time);
  const count = Math.ceil(time / size);
  const matrices = batch * heads * count;

  const finite = tf.maximum<tf.Tensor3D>(logDecay, LEAST_LOG_DECAY);
  const gates = tf.reshape(toChunks(tf.expandDims(finite, 3), size), [matrices, size]);
  const sums = tf.matMul(
    gates,
    triangle(size, (i, j) => i <= j),
  );
  const column = tf.reshape(sums, [matrices, size, 1]);
  const row = tf.reshape(sums, [matrices, 1, size]);
  const total = tf.slice(column, [0, size - 1, 0], [matrices, 1, 1]);
  const future = tf.mul(
    triangle(size, (i, j) => j > i),
    NEVER,
  );
  return {
    batch,
    heads,
    time,
    count,
    size,
    keyWidth,
    valueWidth,
    queries: scale.query === 1 ? toChunks(q, size) : tf.mul(toChunks(q, size), scale.query),
    keys: tf.mul(toChunks(k, size), scale.key),
    values: toChunks(v, size),
    decays: tf.exp(tf.add<tf.Tensor3D>(tf.sub(column, row), future)),
    fromStart: tf.exp(column) as tf.Tensor3D,
    toEnd: tf.exp(tf.sub<tf.Tensor3D>(total, column)),
    across: tf.reshape(tf.exp(total), [batch * heads, count, 1]),
  };
}

/** A matrix [size, size] of ones where `where(i, j)` holds and zeros elsewhere, in float32: it leaves what it meets as it is. */
export function triangle(size: number, where: (i: number, j: number) => boolean): tf.Tensor2D {
  const values = new Float32Array(size * size);
  for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) values[i * size + j] = where(i, j) ? 1 : 0;
  return float32(tf.tensor2d(values, [size, size]));
}

/** [B, T, H, W] as [M, C, W], padded with zeros. */
export function toChunks(x: tf.Tensor4D, size: number): tf.Tensor3D {
  const [batch, time, heads, width] = x.shape;
  const count = Math.ceil(time / size);
  return tf.tidy(() => {
    const missing = count * size - time;
    const parts: tf.Tensor4D[] = missing > 0 ? [x, tf.zeros([batch, missing, heads, width])] : [x];
    const padded = tf.transpose(tf.concat(parts, 1), [0, 2, 1, 3]);
    return tf.reshape(padded, [batch * heads * count, size, width]);
  });
}

/** The inverse of `toChunks`. */
export function fromChunks(x: tf.Tensor3D, { batch, heads, count, size, time }: Chunks): tf.Tensor4D {
  const width = x.shape[2];
  return tf.tidy(() => {
    const padded = tf.reshape(x, [batch, heads, count * size, width]);
    const rows = sliceAxis(padded, 2, 0, time);
    return tf.transpose(rows, [0, 2, 1, 3]) as tf.Tensor4D;
  });
}

/** How keys reach the state after their chunk: sum of exp(G_C - G_j) k_jᵀ v_j, [B * H, N, Dk * Dv]. */
function chunkUpdates({ batch, heads, count, keyWidth, valueWidth, ...chunks }: Chunks): tf.Tensor3D {
  const update = tf.matMul(tf.mul<tf.Tensor3D>(chunks.keys, chunks.toEnd), chunks.values, true, false);
  return tf.reshape(update, [batch * heads, count, keyWidth * valueWidth]);
}

/**
 * The states before every chunk, [M, Dk, Dv], and after the last, [B, H, Dk, Dv].
 * @param initial [B, H, Dk, Dv] or absent for zeros
 */
export function scanStates(chunks: Chunks, initial: tf.Tensor4D | undefined): [tf.Tensor3D, tf.Tensor4D] {
  const updates = chunkUpdates(chunks);
  const { batch, heads, count, keyWidth, valueWidth, across } = chunks;
  const [states, last] = scan(updates, across, stateRows(chunks, initial), range(count));
  return [
    tf.reshape(states, [batch * heads * count, keyWidth, valueWidth]),
    tf.reshape(last, [batch, heads, keyWidth, valueWidth]),
  ];
}

export function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

export function stateRows(
  { batch, heads, keyWidth, valueWidth }: Chunks,
  state: tf.Tensor4D | undefined,
): tf.Tensor3D {
  const shape: tf.ShapeMap['R3'] = [batch * heads, 1, keyWidth * valueWidth];
  return state ? tf.reshape(state, shape) : tf.zeros(shape);
}

/**
 * y <- y * across_n + updates_n for the chunks n in the given order, from `initial`: the values before each chunk (by its
 * number) and the last one.
 */
export function scan(
  updates: tf.Tensor3D,
  across: tf.Tensor3D,
  initial: tf.Tensor3D,
  order: readonly number[],
): [tf.Tensor3D, tf.Tensor3D] {
  const [rows, , width] = updates.shape;
  const before: tf.Tensor3D[] = [];
  let current = initial;
  for (const n of order) {
    before[n] = current;
    const held = current;
    current = tf.tidy(() => {
      const decay = tf.slice(across, [0, n, 0], [rows, 1, 1]);
      return tf.add<tf.Tensor3D>(tf.mul(held, decay), tf.slice(updates, [0, n, 0], [rows, 1, width]));
    });
  }
  return [tf.concat(before, 1), current];
}
