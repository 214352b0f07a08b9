import { suite } from 'uvu';
import { causalAttention } from '../../src/ops/attention/causal-attention.js';
import type * as tf from '../../src/tf.js';
import { assertOpParity } from './parity.js';

const test = suite('cpu engine: fused attention');

interface Case {
  /** Batch, queries, keys, query heads, K/V heads, head width. */
  readonly sizes: [number, number, number, number, number, number];
  readonly window?: number;
  readonly positions?: number[];
}

const CASES: Case[] = [
  { sizes: [1, 1, 1, 1, 1, 8] },
  { sizes: [2, 37, 37, 4, 2, 16] },
  { sizes: [2, 37, 37, 3, 3, 5] },
  { sizes: [2, 5, 61, 4, 1, 16] },
  { sizes: [1, 300, 517, 4, 2, 8] },
  { sizes: [2, 40, 40, 4, 2, 8], window: 1 },
  { sizes: [2, 67, 67, 4, 2, 8], window: 16 },
  { sizes: [2, 67, 67, 4, 2, 8], window: 100 },
  { sizes: [1, 50, 81, 2, 1, 24], window: 20 },
  { sizes: [1, 9, 81, 2, 1, 8], window: 30 },
  { sizes: [1, 1, 81, 2, 1, 8], window: 30 },
  { sizes: [1, 45, 45, 2, 2, 7], window: 13 },
  { sizes: [2, 32, 47, 4, 2, 8], window: 16 },
  { sizes: [1, 40, 40, 600, 300, 8], window: 30 },
  { sizes: [2, 3, 90, 4, 2, 16], positions: [4, 0, 89, 11, 12, 60] },
  { sizes: [1, 4, 90, 2, 2, 8], positions: [80, 0, 3, 79], window: 9 },
];

for (const { sizes, window, positions } of CASES) {
  const [batch, queries, keys, heads, kvHeads, width] = sizes;
  const where = `${window ? ` window ${window}` : ''}${positions ? ' at given positions' : ''}`;
  test(`${sizes.join('x')}${where}`, () =>
    assertOpParity(
      [[batch, queries, heads, width], [batch, keys, kvHeads, width], [batch, keys, kvHeads, width]], // prettier-ignore
      ([q, k, v]) => {
        const options = { window, positions: positions ? Int32Array.from(positions) : null, scale: 0.7 };
        return causalAttention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, options);
      },
      { tolerance: 2e-5 },
    ));
}

test.run();
