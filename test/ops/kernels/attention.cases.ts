/** Causal attention: heads, groups, offsets, windows, positions, odd sizes and length 1. */
import { causalAttention, KeyValuePages, mergeParts, partialAttention } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import * as reference from '../reference.js';
import type { KernelCase } from './contract.js';

interface Attention {
  /** Batch, queries, keys, query heads, K/V heads, head width. */
  readonly sizes: readonly [number, number, number, number, number, number];
  readonly window?: number;
  /** Of all queries of all sequences. */
  readonly positions?: readonly number[];
  readonly scale?: number;
}

const SIZES: readonly Attention[] = [
  { sizes: [1, 1, 1, 1, 1, 8] },
  { sizes: [2, 37, 37, 4, 2, 16] },
  { sizes: [2, 37, 37, 3, 3, 5] },
  { sizes: [2, 5, 61, 4, 1, 16], scale: 0.7 },
  { sizes: [1, 300, 517, 4, 2, 8] },
  { sizes: [1, 128, 128, 1, 1, 128] },
  { sizes: [2, 300, 300, 4, 2, 128] },
  { sizes: [1, 200, 333, 3, 1, 64] },
  { sizes: [1, 40, 90, 4, 2, 40] },
  { sizes: [1, 70, 70, 2, 1, 256] },
  { sizes: [1, 1, 1000, 6, 2, 128] },
  { sizes: [2, 40, 40, 4, 2, 8], window: 1 },
  { sizes: [2, 67, 67, 4, 2, 8], window: 16 },
  { sizes: [2, 67, 67, 4, 2, 8], window: 100 },
  { sizes: [1, 50, 81, 2, 1, 24], window: 20 },
  { sizes: [1, 9, 81, 2, 1, 8], window: 30 },
  { sizes: [1, 1, 81, 2, 1, 8], window: 30 },
  { sizes: [1, 45, 45, 2, 2, 7], window: 13 },
  { sizes: [2, 32, 47, 4, 2, 8], window: 16, scale: 0.7 },
  { sizes: [1, 40, 40, 600, 300, 8], window: 30 },
  { sizes: [1, 300, 300, 2, 2, 128], window: 100 },
  { sizes: [2, 150, 290, 2, 1, 64], window: 33 },
  { sizes: [2, 33, 70, 2, 1, 16], window: 7 },
  { sizes: [1, 90, 150, 4, 2, 200], window: 60 },
  { sizes: [2, 3, 777, 4, 1, 64], window: 500 },
  { sizes: [2, 3, 90, 4, 2, 16], positions: [4, 0, 89, 11, 12, 60] },
  { sizes: [2, 3, 61, 4, 2, 64], positions: [3, 60, 17, 59, 0, 33] },
  { sizes: [1, 4, 90, 2, 2, 8], positions: [80, 0, 3, 79], window: 9 },
];

/** With more, the loops of the reference take too long; what the plain backend gives is compared then. */
const MOST_WORK = 100_000;
/** With more, so does the plain backend. */
const LARGE = 8e6;

export const ATTENTION_CASES: readonly KernelCase[] = SIZES.map(({ sizes, window, positions, scale }) => {
  const [batch, queries, keys, heads, kvHeads, width] = sizes;
  const at = positions && Int32Array.from(positions);
  const work = batch * heads * queries * keys * width;
  return {
    name: `causalAttention, ${sizes.join('x')}${window ? `, window ${window}` : ''}${positions ? ', at positions' : ''}`,
    inputs: (make) => {
      const kv = [batch, keys, kvHeads, width];
      return [make.normal([batch, queries, heads, width], 1.5), make.normal(kv), make.normal(kv)];
    },
    compute: (q, k, v) => {
      const options = { window, scale, positions: at ?? null };
      return [causalAttention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, options)];
    },
    ...(work <= MOST_WORK && {
      reference: (...[q, k, v]: reference.Array64[]) => {
        const position = at && ((b: number, t: number) => at[b * queries + t] ?? 0);
        return [reference.attention(q as reference.Array64, k as reference.Array64, v as reference.Array64, { window, scale, position })]; // prettier-ignore
      },
    }),
    gradients: true,
    // Of 24,000 rows the worst one has this error on a GPU, by kernels composed in 16 bits.
    tolerance: { bfloat16: 1.4e-2 },
    // A query that sees one key has no gradient.
    cancels: window === 1 || keys === 1,
    large: work > LARGE,
  };
});

/**
 * [batch, queries, keys, heads, kvHeads, width, keys of the first part, positions of a page]: kernels for few queries, for many,
 * that of tensor copies and the general one.
 */
const PARTS = [
  [2, 1, 37, 4, 2, 16, 20, 32], [1, 1, 700, 6, 2, 128, 333, 32], [2, 5, 61, 4, 1, 16, 40, 32], [1, 150, 300, 4, 2, 128, 100, 32],
  [1, 40, 90, 4, 2, 40, 50, 32], [1, 1, 20, 2, 2, 8, 0, 32], [1, 150, 471, 4, 2, 128, 301, 128], [2, 130, 520, 2, 1, 64, 384, 128],
] as const; // prettier-ignore

/** Attention to keys of which one part is seen by all queries and the rest causally, merged: attention to all. */
export const PARTIAL_CASES: readonly KernelCase[] = PARTS.map(
  ([batch, queries, keys, heads, kvHeads, width, seen, pageSize]) => ({
    name: `partialAttention, ${[batch, queries, keys, heads, kvHeads, width].join('x')}, ${seen} apart`,
    inputs: (make) => {
      const kv = [batch, keys, kvHeads, width];
      return [make.normal([batch, queries, heads, width], 1.5), make.normal(kv), make.normal(kv)];
    },
    compute: (q, k, v) => {
      const part = (from: number, count: number): KeyValuePages => {
        const pages = new KeyValuePages({ batch, kvHeads, headDim: width, pageSize });
        const rows = (x: tf.Tensor): tf.Tensor4D =>
          tf.slice(x as tf.Tensor4D, [0, from, 0, 0], [-1, count, -1, -1]);
        if (count > 0) pages.append(rows(k), rows(v));
        return pages;
      };
      const [first, rest] = [part(0, seen), part(seen, keys - seen)];
      const merged = mergeParts([
        partialAttention(q as tf.Tensor4D, first, seen),
        partialAttention(q as tf.Tensor4D, rest, 'causal'),
      ]);
      first.dispose();
      rest.dispose();
      return [merged];
    },
    reference: (...[q, k, v]: reference.Array64[]) => [
      reference.attention(q as reference.Array64, k as reference.Array64, v as reference.Array64, {}),
    ],
    tolerance: { bfloat16: 1.4e-2 },
  }),
);
