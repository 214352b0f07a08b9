/**
 * Attention to a part of the keys, and how parts become the whole: with L the logarithms of the sums of exponentials, the
 * softmax over all keys weighs part i by exp(L_i - log sum_j exp L_j) (FlashAttention-2, arXiv 2307.08691). For inference: it
 * records no gradient.
 */
import * as tf from '../../tf.js';
import { runKernel } from '../dispatch.js';
import { queryBlocks, type Visibility } from './blocks.js';
import { attendBlocks, composeCausalAttention, type KeyBlock } from './causal-attention.js';
import type { KeyValuePages } from './key-value-pages.js';
import { pagedInputs } from './paged-attention.js';
import { sliceAxis } from '../reshape.js';

export interface PartialAttention {
  /** [B, T, H, D] */
  readonly output: tf.Tensor4D;
  /** [B, H, T]; very small where no key is seen. */
  readonly logSumExp: tf.Tensor3D;
}

/** exp of it is 0 beside any key that is seen, and it is finite. */
const NOTHING = -1e30;

/**
 * @param q [B, T, H, D], rotated
 * @param seen keys that every query sees, from the first on; `causal`: the queries are those of the last T keys
 */
export function partialAttention(
  q: tf.Tensor4D,
  pages: KeyValuePages,
  seen: number | 'causal',
): PartialAttention {
  const [batch, queries, heads] = q.shape;
  const keys = seen === 'causal' ? pages.length : seen;
  if (keys === 0) {
    const logSumExp = tf.fill<tf.Rank.R3>([batch, heads, queries], NOTHING);
    return { output: tf.zerosLike(q), logSumExp };
  }
  // The last query sees all keys, and one query is the last.
  const isCausal = seen === 'causal' || queries === 1;
  const [output, logSumExp] = tf.tidy(() => attendPages(q, pages, keys, isCausal)) as [
    tf.Tensor4D,
    tf.Tensor3D,
  ];
  return { output, logSumExp };
}

/** Keys, or values, of a page. */
type Rows = (index: number, count: number) => tf.Tensor4D;

function rowsOf({ pages }: KeyValuePages): [keys: Rows, values: Rows] {
  const rows =
    (name: 'key' | 'value'): Rows =>
    (index, count) => {
      const page = pages[index];
      if (page === undefined) throw new RangeError(`page ${index} of ${pages.length}`);
      return sliceAxis(page[name], 2, 0, count);
    };
  return [rows('key'), rows('value')];
}

/** The pages that hold `keys` positions, and how many each holds. */
function* filled({ pageSize }: KeyValuePages, keys: number): Generator<[index: number, count: number]> {
  for (let index = 0; index * pageSize < keys; index++) {
    yield [index, Math.min(pageSize, keys - index * pageSize)];
  }
}

/** The pages are read where they lie. @param length positions of them that count */
function attendPages(q: tf.Tensor4D, pages: KeyValuePages, length: number, isCausal: boolean): tf.Tensor[] {
  const [batch, queries] = q.shape;
  const attrs = { window: null, scale: q.shape[3] ** -0.5, length, pageSize: pages.pageSize, isCausal };
  return runKernel('PartialPagedAttention', pagedInputs(q, pages), attrs, () => {
    if (queries === 1) return composeOne(q, pages, length);
    const positions = isCausal ? null : new Int32Array(batch * queries).fill(length - 1);
    return attendJoined(q, pages, length, positions);
  });
}

/** Of one query. */
function composeOne(q: tf.Tensor4D, pages: KeyValuePages, keys: number): tf.Tensor[] {
  const [batch, queries, heads] = q.shape;
  const [keyRows, valueRows] = rowsOf(pages);
  const visibility: Visibility = { positions: null, window: null, batch, queries, keys };
  const blocks = [...filled(pages, keys)].map(([index, length]): KeyBlock => ({
    start: index * pages.pageSize,
    length,
    read: () => [keyRows(index, length), valueRows(index, length)],
  }));
  const [block] = queryBlocks(visibility, heads, Math.min(pages.pageSize, keys));
  if (block === undefined) throw new RangeError('no queries');
  return attendBlocks(q, pages.options.kvHeads, visibility, block, q.shape[3] ** -0.5, blocks);
}

/** The pages are joined; the queries may have any positions. */
function attendJoined(
  q: tf.Tensor4D,
  pages: KeyValuePages,
  keys: number,
  positions: Int32Array | null,
): tf.Tensor[] {
  const [k, v] = rowsOf(pages).map((rows) => {
    const parts = [...filled(pages, keys)].map(([index, count]) =>
      tf.transpose(rows(index, count), [0, 2, 1, 3]),
    );
    return tf.concat(parts, 1);
  }) as [tf.Tensor4D, tf.Tensor4D];
  const attrs = { window: null, scale: q.shape[3] ** -0.5, positions };
  return composeCausalAttention(q, k, v, attrs);
}

/** The attention to all keys from that to each part. */
export function mergeParts(parts: readonly PartialAttention[]): tf.Tensor4D {
  return tf.tidy(() =>
    mergeStacked(
      tf.stack(parts.map(({ output }) => output)) as tf.Tensor5D,
      tf.stack(parts.map(({ logSumExp }) => logSumExp)) as tf.Tensor4D,
    ),
  );
}

/**
 * The same of parts that lie one after the other.
 * @param outputs [N, B, T, H, D]
 * @param sums [N, B, H, T]
 */
export function mergeStacked(outputs: tf.Tensor5D, sums: tf.Tensor4D): tf.Tensor4D {
  return tf.tidy(() => {
    const [count, batch, time, heads] = outputs.shape;
    const byRow = time === 1 ? sums : tf.transpose(sums, [0, 1, 3, 2]);
    const logarithms = tf.reshape<tf.Rank.R5>(byRow, [count, batch, time, heads, 1]);
    const shares = tf.exp(tf.sub(logarithms, tf.max(logarithms, 0, true)));
    return tf.div<tf.Tensor4D>(tf.sum(tf.mul(outputs, shares), 0), tf.sum(shares, 0));
  });
}
