/**
 * Attention a block at a time, for the composed forms of `CausalAttention` and `PagedAttention`.
 *
 * Inside, everything is heads-first and grouped: the G = Hq / Hkv query heads that share a K/V head become rows of one
 * matrix, so that grouped attention is a plain batched product and K and V are never repeated. A block of R = G * rows
 * queries is [B, Hkv, R, D], a block of keys [B, Hkv, n, D].
 */
import * as tf from '../../tf.js';
import type { CausalAttentionAttributes } from '../kernels.js';
import { limits } from '../limits.js';
import { sliceAxis } from '../reshape.js';

/** Score of a key that a query does not see: its weight vanishes beside that of any key it sees. */
const HIDDEN = -1e30;

/** The positions of the queries, and which keys they see. */
export interface Visibility {
  /** Position of query t of sequence b, at [b * queries + t]; null: the last `queries` of `keys` positions. */
  readonly positions: Int32Array | null;
  readonly window: number | null;
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
}

/** What the queries q [B,Tq,Hq,D] see of the keys k [B,Tk,Hkv,D]. */
export function visibilityOf(q: tf.Tensor4D, k: tf.Tensor4D, attrs: CausalAttentionAttributes): Visibility {
  const { positions, window } = attrs;
  return { positions, window, batch: q.shape[0], queries: q.shape[1], keys: k.shape[1] };
}

/** A run of queries, and the smallest and largest position among them. */
export interface QueryBlock {
  readonly start: number;
  readonly length: number;
  readonly first: number;
  readonly last: number;
}

function positionOf(visibility: Visibility, sequence: number, query: number): number {
  const { positions, keys, queries } = visibility;
  return positions ? (positions[sequence * queries + query] as number) : keys - queries + query;
}

/** Divides the queries so that the scores of a block against `keyBlock` keys stay small. */
export function queryBlocks(visibility: Visibility, heads: number, keyBlock: number): QueryBlock[] {
  const { batch, queries } = visibility;
  const fitting = Math.max(16, Math.floor(limits.scoreElements / (batch * heads * keyBlock)));
  const most = Math.min(fitting, limits.queryBlock);
  const blocks: QueryBlock[] = [];
  for (let start = 0; start < queries; start += most) {
    const length = Math.min(most, queries - start);
    let [first, last] = [Infinity, 0];
    for (let b = 0; b < (visibility.positions ? batch : 1); b++) {
      for (let t = start; t < start + length; t++) {
        const position = positionOf(visibility, b, t);
        first = Math.min(first, position);
        last = Math.max(last, position);
      }
    }
    blocks.push({ start, length, first, last });
  }
  return blocks;
}

/** The first key that any query of the block sees. */
export function firstKey(block: QueryBlock, window: number | null): number {
  return window === null ? 0 : Math.max(0, block.first - window + 1);
}

/**
 * What is added to the scores of a query block against keys `keyStart` to `keyStart + keyCount - 1`: 0 where a query
 * sees a key. Shape [B or 1, 1, G * rows, keys]; null where every query sees every key.
 */
export function mask(
  visibility: Visibility,
  block: QueryBlock,
  group: number,
  keyStart: number,
  keyCount: number,
): tf.Tensor4D | null {
  const { positions, window } = visibility;
  const sees = window ?? Infinity;
  if (keyStart + keyCount - 1 <= block.first && keyStart > block.last - sees) return null;
  const batch = positions ? visibility.batch : 1;
  const perSequence = block.length * keyCount;
  const values = new Float32Array(batch * group * perSequence);
  for (let b = 0; b < batch; b++) {
    const base = b * group * perSequence;
    for (let t = 0; t < block.length; t++) {
      const position = positionOf(visibility, b, block.start + t) - keyStart;
      const row = values.subarray(base + t * keyCount, base + (t + 1) * keyCount);
      row.fill(HIDDEN, Math.max(0, Math.min(keyCount, position + 1)));
      if (window !== null) row.fill(HIDDEN, 0, Math.max(0, position - window + 1));
    }
    for (let g = 1; g < group; g++) values.copyWithin(base + g * perSequence, base, base + perSequence);
  }
  return tf.tensor4d(values, [batch, 1, group * block.length, keyCount]);
}

/** Rows `start` to `start + length - 1` of x [B, T, Hq, D] as [B, Hkv, G * length, D]. */
export function groupRows(x: tf.Tensor4D, kvHeads: number, start: number, length: number): tf.Tensor4D {
  const [batch, , heads, width] = x.shape;
  const group = heads / kvHeads;
  return tf.tidy(() => {
    const rows = sliceAxis(x, 1, start, length);
    const split = tf.reshape(rows, [batch, length, kvHeads, group, width]);
    return tf.reshape(tf.transpose(split, [0, 2, 3, 1, 4]), [batch, kvHeads, group * length, width]);
  });
}

/** The inverse of `groupRows`: [B, Hkv, G * length, D] as [B, length, Hq, D]. */
export function ungroupRows(x: tf.Tensor4D, group: number): tf.Tensor4D {
  const [batch, kvHeads, rows, width] = x.shape;
  const length = rows / group;
  return tf.tidy(() => {
    const split = tf.reshape(x, [batch, kvHeads, group, length, width]);
    return tf.reshape(tf.transpose(split, [0, 3, 1, 2, 4]), [batch, length, kvHeads * group, width]);
  });
}

/** A softmax over the keys seen so far: running maximum, sum of exponentials [B, Hkv, R, 1], weighted values [.., D]. */
export type RunningSoftmax = [maximum: tf.Tensor4D, sum: tf.Tensor4D, values: tf.Tensor4D];

/**
 * Takes one more block of keys into the softmax (Milakov and Gimelshein, arXiv 1805.02867; FlashAttention, arXiv
 * 2205.14135). Disposes `before`.
 * @param queries [B, Hkv, R, D], already scaled
 */
export function attendBlock(
  before: RunningSoftmax | null,
  queries: tf.Tensor4D,
  keys: tf.Tensor4D,
  values: tf.Tensor4D,
  hidden: tf.Tensor4D | null,
): RunningSoftmax {
  const after = tf.tidy((): RunningSoftmax => {
    const product = tf.matMul(queries, keys, false, true);
    const scores = hidden ? tf.add<tf.Tensor4D>(product, hidden) : product;
    const peak: tf.Tensor4D = tf.max(scores, -1, true);
    const maximum = before ? tf.maximum<tf.Tensor4D>(before[0], peak) : peak;
    const weights = tf.exp(tf.sub<tf.Tensor4D>(scores, maximum));
    const sum: tf.Tensor4D = tf.sum(weights, -1, true);
    const weighted: tf.Tensor4D = tf.matMul(weights, values);
    if (!before) return [maximum, sum, weighted];
    const fade = tf.exp(tf.sub<tf.Tensor4D>(before[0], maximum));
    return [
      maximum,
      tf.add<tf.Tensor4D>(tf.mul(before[1], fade), sum),
      tf.add<tf.Tensor4D>(tf.mul(before[2], fade), weighted),
    ];
  });
  if (before) tf.dispose(before);
  return after;
}
