/** Attention of a single query per sequence over pages, each page read once where it lies. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CpuBackend, Floats } from '../backend.js';
import { graph } from '../graph.js';

/** Rows `from` to `to - 1` of every head of a page, [B * H, pageSize, D]. */
export interface Run {
  readonly page: Floats;
  readonly pageSize: number;
  readonly from: number;
  readonly to: number;
}

/**
 * Rows per product. The products of the query heads that share a K/V head follow each other over the same rows, which
 * are still in the cache the second time: 1,024 rows of 64 floats are 256 KiB.
 */
const ROWS_PER_PRODUCT = 1024;

export interface Softmax {
  readonly maximum: Float64Array;
  readonly sum: Float64Array;
  readonly values: Float64Array;
}

/** q and out [B, 1, Hq, D]. */
export function attendOnce(
  backend: CpuBackend,
  q: TensorInfo,
  keys: readonly Run[],
  values: readonly Run[],
  out: TensorInfo,
  { heads, scale }: { readonly heads: number; readonly scale: number },
): void {
  const [batch, , queryHeads, width] = q.shape as [number, number, number, number];
  const rows = batch * queryHeads;
  const softmax = emptySoftmax(rows, width);
  // Scaled here: products without a factor have a fast path for a single row.
  const queries = backend.floats(q).map((value) => value * scale);
  const group = queryHeads / heads;
  for (const [i, run] of keys.entries())
    for (const block of blocksOf(run, batch * heads)) {
      const size = block.heads * block.count * block.rows * width;
      const from = (block.head * run.pageSize + block.from) * width;
      const part = {
        ...block,
        group,
        width,
        queries: queries.subarray(block.head * group * width, (block.head + block.heads) * group * width),
        keys: run.page.subarray(from, from + size),
        values: (values[i] as Run).page.subarray(from, from + size),
      };
      attendToBlock(backend, part, softmax);
    }
  finish(softmax, backend.floats(out), width);
}

/** Of `rows` query heads over no keys. */
export function emptySoftmax(rows: number, width: number): Softmax {
  return {
    maximum: new Float64Array(rows).fill(-Infinity),
    sum: new Float64Array(rows),
    values: new Float64Array(rows * width),
  };
}

/** The weighted means of the values. */
export function finish(softmax: Softmax, target: Floats, width: number): void {
  for (let i = 0; i < target.length; i++)
    target[i] = (softmax.values[i] as number) / (softmax.sum[Math.floor(i / width)] as number);
}

/** `count` times `rows` rows from `from` on, of `heads` heads that lie together from `head` on. */
interface Block {
  readonly head: number;
  readonly heads: number;
  readonly from: number;
  readonly count: number;
  readonly rows: number;
}

/** A full page is one block; of a part of a page every head is one, and the rows that remain another. */
function blocksOf({ pageSize, from, to }: Run, heads: number): Block[] {
  const full = from === 0 && to === pageSize;
  if (full && pageSize % ROWS_PER_PRODUCT === 0)
    return [{ head: 0, heads, from: 0, count: pageSize / ROWS_PER_PRODUCT, rows: ROWS_PER_PRODUCT }];
  if (full && pageSize < ROWS_PER_PRODUCT) return [{ head: 0, heads, from: 0, count: 1, rows: pageSize }];
  const count = Math.floor((to - from) / ROWS_PER_PRODUCT);
  const whole = from + count * ROWS_PER_PRODUCT;
  const blocks: Block[] = [];
  for (let head = 0; head < heads; head++) {
    if (count > 0) blocks.push({ head, heads: 1, from, count, rows: ROWS_PER_PRODUCT });
    if (whole < to) blocks.push({ head, heads: 1, from: whole, count: 1, rows: to - whole });
  }
  return blocks;
}

export interface BlockInputs extends Block {
  readonly group: number;
  readonly width: number;
  readonly queries: Floats;
  readonly keys: Floats;
  readonly values: Floats;
}

export function attendToBlock(backend: CpuBackend, block: BlockInputs, softmax: Softmax): void {
  const { head, heads, group, width, count, rows } = block;
  const { runtime } = backend;
  const entries = heads * group;
  const [maximum, sum] = [new Float32Array(entries), new Float32Array(entries)];
  const weighted = new Float32Array(entries * width);
  const dims = [heads, count, 1, rows, width];
  const feeds = {
    q: runtime.wrap(block.queries, [heads, 1, group, 1, width]),
    k: runtime.wrap(block.keys, dims),
    v: runtime.wrap(block.values, dims),
  };
  const fetches = {
    maximum: runtime.wrap(maximum, [heads, 1, group, 1, 1]),
    sum: runtime.wrap(sum, [heads, 1, group, 1, 1]),
    weighted: runtime.wrap(weighted, [heads, 1, group, 1, width]),
  };
  backend.run('PageDecode', blockGraph, feeds, fetches);
  mergeAll(softmax, head * group, width, { maximum, sum, weighted });
}

/** Of some query heads over a block of keys. */
export interface BlockResult {
  readonly maximum: Float32Array;
  readonly sum: Float32Array;
  readonly weighted: Float32Array;
}

/** Takes the softmax of the query heads from `first` on over some more rows into those over the rows before. */
export function mergeAll(softmax: Softmax, first: number, width: number, block: BlockResult): void {
  const { maximum, sum, weighted } = block;
  for (let i = 0; i < maximum.length; i++)
    merge(softmax, first + i, width, maximum[i] as number, sum[i] as number, weighted.subarray(i * width));
}

/** Per query head the largest score, the sum of exponentials and the weighted values over all rows of the block. */
function blockGraph() {
  return graph((g) => {
    const [products, entries] = [g.integers(1), g.integers(4)];
    const scores = g.product(g.input('q', 5), g.input('k', 5), { transB: 1 });
    const peak = g.op('ReduceMax', [scores, entries], { keepdims: 1 });
    const weights = g.op('Exp', [g.op('Sub', [scores, peak])]);
    const maximum = g.op('ReduceMax', [peak, products], { keepdims: 1 });
    const fade = g.op('Exp', [g.op('Sub', [peak, maximum])]);
    const total = (x: string) => g.op('ReduceSum', [g.op('Mul', [x, fade]), products], { keepdims: 1 });
    g.output('sum', 5, total(g.op('ReduceSum', [weights, entries], { keepdims: 1 })));
    g.output('weighted', 5, total(g.op('MatMul', [weights, g.input('v', 5)])));
    g.output('maximum', 5, maximum);
  });
}

/** Takes the softmax over some more rows into that of the rows before. */
function merge(
  { maximum, sum, values }: Softmax,
  entry: number,
  width: number,
  peak: number,
  peakSum: number,
  weighted: Float32Array,
): void {
  const before = maximum[entry] as number;
  const after = Math.max(before, peak);
  const [keep, take] = [Math.exp(before - after), Math.exp(peak - after)];
  maximum[entry] = after;
  sum[entry] = (sum[entry] as number) * keep + peakSum * take;
  for (let i = 0; i < width; i++) {
    const at = entry * width + i;
    values[at] = (values[at] as number) * keep + (weighted[i] as number) * take;
  }
}
