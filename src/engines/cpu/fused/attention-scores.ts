/**
 * Attention through its scores, a block of queries of one sequence at a time: for the gradient, for queries at given
 * positions, and for head widths that the tiled kernel does not take. Keys of one sequence lie together in [B, T, H, D],
 * so every block reads and writes its tensors where they are.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CausalAttentionAttributes } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import { graph, type GraphBuilder } from '../graph.js';

/** Scores held at a time: 4 MiB stay in the cache. */
const SCORES_AT_ONCE = 2 ** 20;

export interface AttentionTensors {
  readonly q: TensorInfo;
  readonly k: TensorInfo;
  readonly v: TensorInfo;
  readonly out: TensorInfo;
}

/** A block of queries of sequence `b`, and the keys that some of them see. */
export interface Block {
  readonly b: number;
  readonly start: number;
  readonly length: number;
  readonly firstKey: number;
  readonly keys: number;
}

/** The position of every query of sequence `b`. */
function positionsOf(
  { q, k }: AttentionTensors,
  { positions }: CausalAttentionAttributes,
  b: number,
): Int32Array {
  const [, time] = q.shape as [number, number];
  const offset = (k.shape[1] as number) - time;
  return positions
    ? positions.subarray(b * time, (b + 1) * time)
    : Int32Array.from({ length: time }, (_, t) => offset + t);
}

export function blocksOf(tensors: AttentionTensors, attrs: CausalAttentionAttributes): Block[] {
  const [batch, time, heads] = tensors.q.shape as [number, number, number];
  const seen = Math.min(tensors.k.shape[1] as number, (attrs.window ?? Infinity) + 256);
  const most = Math.min(256, Math.max(16, Math.floor(SCORES_AT_ONCE / (heads * seen))));
  const blocks: Block[] = [];
  for (let b = 0; b < batch; b++) {
    const positions = positionsOf(tensors, attrs, b);
    for (let start = 0; start < time; start += most) {
      const length = Math.min(most, time - start);
      const part = positions.subarray(start, start + length);
      const firstKey = attrs.window === null ? 0 : Math.max(0, Math.min(...part) - attrs.window + 1);
      blocks.push({ b, start, length, firstKey, keys: Math.max(...part) + 1 - firstKey });
    }
  }
  return blocks;
}

/** Rows of a [B, T, H, D] tensor as a view: `length` positions of sequence `b` from `start` on. */
export function rowsFrom(
  backend: CpuBackend,
  x: TensorInfo,
  { b, start, length }: Pick<Block, 'b' | 'start' | 'length'>,
): Floats {
  const [, time, heads, width] = x.shape as [number, number, number, number];
  const from = (b * time + start) * heads * width;
  return backend.floats(x).subarray(from, from + length * heads * width);
}

/** [T, Hkv, G, D] as [Hkv, G * T, D]: the query heads of a group are rows of one matrix. */
export function groupedRows(g: GraphBuilder, x: string, kvHeads: number, width: number): string {
  const headsFirst = g.op('Transpose', [x], { perm: [1, 2, 0, 3] });
  return g.op('Reshape', [headsFirst, g.integers(kvHeads, -1, width)]);
}

/** The inverse: [Hkv, G * T, D] as [T, Hkv, G, D]. */
export function ungroupedRows(g: GraphBuilder, x: string, [kvHeads, group, width]: GroupShape): string {
  const split = g.op('Reshape', [x, g.integers(kvHeads, group, -1, width)]);
  return g.op('Transpose', [split], { perm: [2, 0, 1, 3] });
}

/** [T, Hkv, D] as [Hkv, T, D], or back. */
export function headsFirst(g: GraphBuilder, x: string): string {
  return g.op('Transpose', [x], { perm: [1, 0, 2] });
}

export type GroupShape = readonly [kvHeads: number, group: number, width: number];

export function groupShape({ q, k }: AttentionTensors): GroupShape {
  const [heads, width] = q.shape.slice(2) as [number, number];
  const kvHeads = k.shape[2] as number;
  return [kvHeads, heads / kvHeads, width];
}

/** Writes the scores of a block, [Hkv, G * length, keys], -Infinity where a query does not see a key. */
export function computeScores(
  backend: CpuBackend,
  tensors: AttentionTensors,
  block: Block,
  attrs: CausalAttentionAttributes,
  scores: Floats,
): void {
  const shape = groupShape(tensors);
  const [kvHeads, group, width] = shape;
  const { runtime } = backend;
  const define = () =>
    graph((g) => {
      const queries = groupedRows(g, g.input('q', 4), kvHeads, width);
      const keys = headsFirst(g, g.input('k', 3));
      g.output('scores', 3, g.product(queries, keys, { transB: 1, alpha: attrs.scale }));
    });
  const feeds = {
    q: runtime.wrap(rowsFrom(backend, tensors.q, block), [block.length, ...shape]),
    k: runtime.wrap(rowsFrom(backend, tensors.k, keysOf(block)), [block.keys, kvHeads, width]),
  };
  const dims = [kvHeads, group * block.length, block.keys];
  const key = `Scores/${shape.join()}/${attrs.scale}`;
  backend.run(key, define, feeds, { scores: runtime.wrap(scores, dims) });
  hideUnseen(scores, block, positionsOf(tensors, attrs, block.b), attrs.window);
}

export function keysOf({ b, firstKey, keys }: Block): { b: number; start: number; length: number } {
  return { b, start: firstKey, length: keys };
}

function hideUnseen(scores: Floats, block: Block, positions: Int32Array, window: number | null): void {
  const { start, length, firstKey, keys } = block;
  const rows = scores.length / keys;
  for (let row = 0; row < rows; row++) {
    const position = (positions[start + (row % length)] as number) - firstKey;
    const from = row * keys;
    if (position + 1 < keys) scores.fill(-Infinity, from + position + 1, from + keys);
    if (window !== null && position >= window) scores.fill(-Infinity, from, from + position - window + 1);
  }
}

/** The forward pass: softmax of the scores times the values. */
export function attendByScores(
  backend: CpuBackend,
  tensors: AttentionTensors,
  attrs: CausalAttentionAttributes,
): void {
  const shape = groupShape(tensors);
  const [kvHeads, group, width] = shape;
  const define = () =>
    graph((g) => {
      const weights = g.op('Softmax', [g.input('scores', 3)], { axis: -1 });
      const out = g.product(weights, headsFirst(g, g.input('v', 3)));
      g.output('out', 4, ungroupedRows(g, out, shape));
    });
  const { runtime } = backend;
  for (const block of blocksOf(tensors, attrs))
    backend.withScratch([kvHeads * group * block.length * block.keys], ([scores]) => {
      computeScores(backend, tensors, block, attrs, scores);
      const feeds = {
        scores: runtime.wrap(scores, [kvHeads, group * block.length, block.keys]),
        v: runtime.wrap(rowsFrom(backend, tensors.v, keysOf(block)), [block.keys, kvHeads, width]),
      };
      const out = runtime.wrap(rowsFrom(backend, tensors.out, block), [block.length, ...shape]);
      backend.run(`Attend/${shape.join()}`, define, feeds, { out });
    });
}
