import { suite } from 'uvu';
import { KeyValuePages } from '../../src/ops/attention/key-value-pages.js';
import { pagedAttention } from '../../src/ops/attention/paged-attention.js';
import { causalAttention, type KeysAndValues, ringOf, withPosition } from '../../src/ops/index.js';
import type * as tf from '../../src/tf.js';
import { assertParity, random } from './parity.js';

const test = suite('cpu engine: pages of keys and values');

interface Case {
  readonly batch: number;
  /** Positions appended, step by step; the queries are those of the last step. */
  readonly steps: number[];
  readonly heads: number;
  readonly kvHeads: number;
  readonly width: number;
  readonly pageSize: number;
  readonly window?: number;
}

const BASE: Case = { batch: 2, steps: [21, 5, 3], heads: 4, kvHeads: 2, width: 8, pageSize: 8 };
const CASES: Record<string, Case> = {
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

function attend({ batch, steps, heads, kvHeads, width, pageSize, window }: Case): tf.Tensor {
  const pages = new KeyValuePages({ batch, kvHeads, headDim: width, pageSize });
  for (const [i, count] of steps.entries()) {
    const shape = [batch, count, kvHeads, width];
    pages.append(random(shape, 2 * i) as tf.Tensor4D, random(shape, 2 * i + 1) as tf.Tensor4D);
  }
  const q = random([batch, steps.at(-1) ?? 1, heads, width], 99) as tf.Tensor4D;
  const out = pagedAttention(q, pages, { window, scale: 1.3 });
  pages.dispose();
  return out;
}

for (const [name, sizes] of Object.entries(CASES)) test(name, () => assertParity(() => attend(sizes)));

test('forks share pages and then part', () =>
  assertParity(() => {
    const shape: [number, number, number, number] = [1, 11, 2, 8];
    const pages = new KeyValuePages({ batch: 1, kvHeads: 2, headDim: 8, pageSize: 8 });
    pages.append(random(shape, 1) as tf.Tensor4D, random(shape, 2) as tf.Tensor4D);
    const fork = pages.fork();
    fork.append(random(shape, 3) as tf.Tensor4D, random(shape, 4) as tf.Tensor4D);
    pages.append(random(shape, 5) as tf.Tensor4D, random(shape, 6) as tf.Tensor4D);
    const q = random([1, 2, 4, 8], 7) as tf.Tensor4D;
    const results = [pagedAttention(q, pages), pagedAttention(q, fork)];
    pages.dispose();
    fork.dispose();
    return results;
  }));

test('a ring of a window, changed in place and not', () =>
  assertParity(() => {
    const rows = (count: number, seed: number): KeysAndValues => {
      const shape: [number, number, number, number] = [2, count, 3, 5];
      return [random(shape, seed), random(shape, seed + 1)] as unknown as KeysAndValues;
    };
    let ring = ringOf(rows(13, 1), 13, 7);
    for (let position = 13; position < 30; position++)
      ring = withPosition(ring, rows(1, 2 * position), position, position !== 15);
    return [...ring, causalAttention(random([2, 1, 6, 5], 99) as tf.Tensor4D, ...ring)];
  }));

test.run();
