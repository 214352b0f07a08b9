/** Inverses of unit lower triangular matrices, batched: of I + A with A strictly below the diagonal. */
import type { CpuBackend } from '../backend.js';
import type { GraphBuilder } from '../graph.js';
import type { OnnxTensor } from '../runtime.js';
import { CHUNK } from './segments.js';

/** Rows of the diagonal blocks that are inverted whole. */
const BLOCK = 16;

/**
 * (I + A)⁻¹ from [N, B, H, C, C], of which only what is below the diagonal counts.
 * @param isWhole whether C is `CHUNK`; else it is less, and the graph has the inputs of `padding`
 *
 * By the inverses of diagonal blocks of 16, 32, 64 rows: of [[L, 0], [B, R]] it is [[L⁻¹, 0], [-R⁻¹ B L⁻¹, R⁻¹]]. A series of powers
 * of A would lose all digits where keys are alike.
 */
export function inverse(g: GraphBuilder, a: string, isWhole: boolean): string {
  const whole = isWhole ? a : g.op('Pad', [a, g.input('padding', 1, 'int64')]);
  const diagonal = places(CHUNK / BLOCK, 0).map((at) => tile(g, whole, at, BLOCK));
  let blocks = smallInverses(g, g.op('Concat', diagonal, { axis: 0 }));
  for (let rows = BLOCK; rows < CHUNK; rows *= 2) {
    const [left, right] = g.split(blocks, 0);
    const below = places(CHUNK / rows / 2, 1).map((at) => tile(g, whole, at, rows));
    const between = g.op('Concat', below, { axis: 0 });
    const corner = g.product(right, g.product(between, left), { alpha: -1 });
    const top = g.op('Pad', [left, g.integers(0, 0, 0, 0, 0, 0, 0, 0, 0, rows)]);
    blocks = g.op('Concat', [top, g.op('Concat', [corner, right], { axis: 4 })], { axis: 3 });
  }
  if (isWhole) return blocks;
  return g.op('Slice', [blocks, g.integers(0, 0), g.input('size', 1, 'int64'), g.integers(3, 4)]);
}

/** What `inverse` takes where C is less than `CHUNK`: how much Pad adds at each end of every axis, and C for both axes. */
export function padding({ runtime }: CpuBackend, size: number): Record<'padding' | 'size', OnnxTensor> {
  const missing = CHUNK - size;
  const integers = (...values: number[]): OnnxTensor =>
    runtime.wrap(BigInt64Array.from(values, BigInt), [values.length]);
  return { padding: integers(0, 0, 0, 0, 0, 0, 0, 0, missing, missing), size: integers(size, size) };
}

/** Row and column of a tile, in units of its size. */
type Place = readonly [row: number, column: number];

/**
 * Those of diagonal blocks (`below` = 0), or of the tiles below each first of two diagonal blocks (`below` = 1), in the order in which
 * each half of a list has the first or the second blocks of all pairs.
 */
function places(count: number, below: 0 | 1): Place[] {
  return halved(count).map((i) => (below === 0 ? [i, i] : [2 * i + 1, 2 * i]));
}

/** 0 to count - 1, even numbers before odd ones at every level. */
function halved(count: number): number[] {
  if (count === 1) return [0];
  const pairs = halved(count / 2);
  return [...pairs.map((i) => 2 * i), ...pairs.map((i) => 2 * i + 1)];
}

function tile(g: GraphBuilder, x: string, [row, column]: Place, rows: number): string {
  const from = g.integers(row * rows, column * rows);
  return g.op('Slice', [x, from, g.integers((row + 1) * rows, (column + 1) * rows), g.integers(3, 4)]);
}

/** The same by blocks of 1, 2, 4, … rows within whole matrices, which are small enough for that. */
function smallInverses(g: GraphBuilder, a: string): string {
  const joining = (rows: number): string => {
    const block = (i: number): number => Math.floor(i / rows);
    return g.mask(BLOCK, (i, j) => block(i) % 2 === 1 && block(j) === block(i) - 1);
  };
  const identity = g.mask(BLOCK, (i, j) => i === j);
  let inverted = g.op('Sub', [identity, g.op('Mul', [a, joining(1)])]);
  for (let rows = 2; rows < BLOCK; rows *= 2) {
    const joined = g.op('Mul', [a, joining(rows)]);
    inverted = g.op('Sub', [inverted, g.product(inverted, g.product(joined, inverted))]);
  }
  return inverted;
}
