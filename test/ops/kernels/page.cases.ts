/** Keys and values in pages and in rings of a window, as decoding uses them. */
import {
  KeyValuePages, type KeysAndValues, causalAttention, pagedAttention, ringOf, withPosition,
} from '../../../src/ops/index.js'; // prettier-ignore
import type { RotationAttributes } from '../../../src/ops/kernels.js';
import * as tf from '../../../src/tf.js';
import type { KernelCase } from './contract.js';

interface Pages {
  readonly batch: number;
  /** Positions appended, step by step. */
  readonly steps: readonly number[];
  /** The last of all positions; default: those of the last step. */
  readonly queries?: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly width: number;
  readonly pageSize: number;
  readonly window?: number;
  readonly rotation?: RotationAttributes;
}

const BASE: Pages = { batch: 2, steps: [21, 5, 3], heads: 4, kvHeads: 2, width: 8, pageSize: 8 };

const LAYOUTS: Readonly<Record<string, Pages>> = {
  'several queries over several pages': BASE,
  'several queries in one page': { ...BASE, pageSize: 64 },
  'a window of several queries': { ...BASE, steps: [40, 30], window: 11 },
  'one query over full pages': { ...BASE, steps: [23, 1] },
  'one query, last page half full': { ...BASE, steps: [18, 1] },
  'one query with a window': { ...BASE, steps: [30, 1], window: 13 },
  'one query over long pages': { ...BASE, batch: 1, steps: [5000, 1], pageSize: 2048 },
  'one query over long pages of an odd size': { ...BASE, batch: 1, steps: [3300, 1], pageSize: 1500 },
  'a width that is not a multiple of 8': { ...BASE, width: 5 },
  'one query of an odd width': { ...BASE, width: 5, steps: [9, 1] },
  'the first position': { ...BASE, steps: [1] },
};

/** [batch, queries, keys, heads, kvHeads, width, window]: one query, few, many; widths of kernels and others. */
const SIZES: readonly (readonly [number, number, number, number, number, number, number?])[] = [
  [2, 150, 300, 4, 2, 128], [1, 200, 333, 3, 1, 64], [1, 150, 300, 2, 2, 128, 100], [1, 40, 90, 4, 2, 40], [2, 33, 70, 2, 1, 16, 7],
  [1, 1, 1000, 6, 2, 128], [2, 3, 777, 4, 1, 64, 500],
]; // prettier-ignore

/** [queries, keys, width] of heads that are rotated on the way: few queries in one launch, many, heads that are padded. */
const ROTATED = [[1, 1, 32], [1, 1300, 128], [5, 777, 64], [40, 200, 64], [2, 90, 36]] as const; // prettier-ignore

/** Elements of keys times queries that take the plain backend long. */
const LARGE = 5e6;

function pagedCase(name: string, sizes: Pages): KernelCase {
  const { batch, steps, heads, kvHeads, width, pageSize, window, rotation } = sizes;
  const length = steps.reduce((sum, count) => sum + count, 0);
  const queries = sizes.queries ?? steps.at(-1) ?? 1;
  return {
    name: `pagedAttention, ${name}`,
    large: batch * heads * queries * length * width > LARGE,
    inputs: (make) => {
      const kv = [batch, length, kvHeads, width];
      return [make.normal([batch, queries, heads, width], 1.5), make.normal(kv), make.normal(kv)];
    },
    compute: (q, k, v) => {
      const pages = new KeyValuePages({ batch, kvHeads, headDim: width, pageSize });
      let start = 0;
      for (const count of steps) {
        const part = (x: tf.Tensor) =>
          tf.slice(x as tf.Tensor4D, [0, start, 0, 0], [batch, count, kvHeads, width]);
        pages.append(part(k), part(v), rotation && { ...rotation, start: 999_000 + start });
        start += count;
      }
      const out = pagedAttention(q as tf.Tensor4D, pages, { window, rotation });
      pages.dispose();
      return [out];
    },
  };
}

const PAGED: readonly KernelCase[] = [
  ...Object.entries(LAYOUTS).map(([name, sizes]) => pagedCase(name, sizes)),
  ...[16, 128, 256].flatMap((pageSize) =>
    SIZES.map(([batch, queries, keys, heads, kvHeads, width, window]) => {
      const first = Math.floor(keys / 3);
      const name = `${queries} of ${keys} positions, heads of ${width}, pages of ${pageSize}`;
      return pagedCase(name, {
        batch,
        steps: [first, keys - first],
        queries,
        heads,
        kvHeads,
        width,
        pageSize,
        window,
      });
    }),
  ),
  ...(['interleaved', 'half'] as const).flatMap((style) =>
    ROTATED.map(([queries, keys, width]) => {
      const frequencies = Float64Array.from({ length: width / 2 }, (_, i) => 10000 ** ((-2 * i) / width));
      const rotation = { start: 1_000_000, frequencies, style };
      // All at once, and the last few by a kernel that rotates them.
      const few = Math.min(5, keys);
      const steps = [keys - few, few].filter((count) => count > 0);
      const name = `rotated, ${style}, ${queries} of ${keys} positions, heads of ${width}`;
      return pagedCase(name, {
        batch: 1,
        steps,
        queries,
        heads: 6,
        kvHeads: 2,
        width,
        pageSize: 256,
        rotation,
      });
    }),
  ),
];

const rowsOf = (x: tf.Tensor | undefined, start: number, count: number): tf.Tensor4D => {
  const [batch, , heads, width] = (x as tf.Tensor4D).shape;
  return tf.slice(x as tf.Tensor4D, [0, start, 0, 0], [batch, count, heads, width]);
};

const FORKS: KernelCase = {
  name: 'forks share pages and then part',
  inputs: (make) => [make.normal([1, 2, 4, 8]), make.normal([1, 33, 2, 8]), make.normal([1, 33, 2, 8])],
  compute: (q, k, v) => {
    const pages = new KeyValuePages({ batch: 1, kvHeads: 2, headDim: 8, pageSize: 8 });
    const append = (to: KeyValuePages, start: number) => {
      to.append(rowsOf(k, start, 11), rowsOf(v, start, 11));
    };
    append(pages, 0);
    const fork = pages.fork();
    append(fork, 11);
    append(pages, 22);
    const results = [pagedAttention(q as tf.Tensor4D, pages), pagedAttention(q as tf.Tensor4D, fork)];
    pages.dispose();
    fork.dispose();
    return results;
  },
};

const RING: KernelCase = {
  name: 'a ring of a window, changed in place and not',
  inputs: (make) => [make.normal([2, 1, 6, 5]), make.normal([2, 30, 3, 5]), make.normal([2, 30, 3, 5])],
  compute: (q, k, v) => {
    const rows = (start: number, count: number) =>
      [rowsOf(k, start, count), rowsOf(v, start, count)] as unknown as KeysAndValues;
    let ring = ringOf(rows(0, 13), 13, 7);
    for (let position = 13; position < 30; position++)
      ring = withPosition(ring, rows(position, 1), position, position !== 15);
    return [...ring, causalAttention(q as tf.Tensor4D, ...ring)];
  },
};

export const PAGE_CASES: readonly KernelCase[] = [...PAGED, FORKS, RING];
