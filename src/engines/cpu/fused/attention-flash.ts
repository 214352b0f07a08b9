/**
 * Attention by ONNX Runtime's GroupQueryAttention, whose CPU kernel is a tiled online softmax: causal, grouped heads,
 * keys and values read where they lie.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CpuBackend, Floats } from '../backend.js';
import { graph } from '../graph.js';

/** Keys and values of one sequence, [heads, capacity, D] each, of which the first `length` positions are filled. */
export interface HeadsFirst {
  readonly keys: Floats;
  readonly values: Floats;
  readonly heads: number;
  readonly capacity: number;
  readonly length: number;
}

/** The operator takes head widths that are multiples of 8. */
export function flashable(q: TensorInfo): boolean {
  return (q.shape.at(-1) ?? 0) % 8 === 0;
}

/** Queries and outputs of one sequence, [time, heads, width] each. */
export interface Queries {
  readonly q: Floats;
  readonly out: Floats;
  readonly time: number;
  readonly heads: number;
  readonly width: number;
  readonly scale: number;
}

/**
 * The queries are the last positions of the cache. With a window, the arrays of the cache must be one head longer than
 * their contents.
 */
export function flashAttention(
  backend: CpuBackend,
  queries: Queries,
  cache: HeadsFirst,
  window: number | null,
): void {
  if (window === null || window >= cache.length) flash(backend, queries, cache, null);
  else windowed(backend, queries, cache, window);
}

/**
 * The kernel visits every key before a query, in its window or not. So queries go in blocks, each against just the keys
 * it sees. Blocks as long as the window visit twice the keys that are seen; shorter ones cost more calls.
 */
function windowed(backend: CpuBackend, queries: Queries, cache: HeadsFirst, window: number): void {
  const { time, heads, width } = queries;
  const offset = cache.length - time;
  const most = Math.max(64, window);
  for (let start = 0; start < time; start += most) {
    const length = Math.min(most, time - start);
    const firstKey = Math.max(0, offset + start - window + 1);
    const rows = (x: Floats) => x.subarray(start * heads * width, (start + length) * heads * width);
    const block = { ...queries, q: rows(queries.q), out: rows(queries.out), time: length };
    const seen = {
      ...cache,
      keys: cache.keys.subarray(firstKey * width),
      values: cache.values.subarray(firstKey * width),
      length: offset + start + length - firstKey,
    };
    flash(backend, block, seen, window);
  }
}

/** One call of the operator, for one sequence. */
function flash(backend: CpuBackend, queries: Queries, cache: HeadsFirst, window: number | null): void {
  const { time, heads, width, scale } = queries;
  const { runtime } = backend;
  const define = () => flashGraph(heads, cache.heads, scale, window);
  const rows = [1, time, heads * width];
  const cacheDims = [1, cache.heads, cache.capacity, width];
  const cacheSize = cache.heads * cache.capacity * width;
  const keys = runtime.wrap(cache.keys.subarray(0, cacheSize), cacheDims);
  const values = runtime.wrap(cache.values.subarray(0, cacheSize), cacheDims);
  // No new keys, and the present cache is the past one: the operator then only reads it.
  const feeds = {
    q: runtime.wrap(queries.q, rows),
    none: runtime.wrap(new Float32Array(0), [1, 0, cache.heads * width]),
    keys,
    values,
    last: runtime.wrap(Int32Array.of(cache.length - 1), [1]),
    length: runtime.wrap(Int32Array.of(cache.length), [1]),
  };
  const fetches = { y: runtime.wrap(queries.out, rows), presentKeys: keys, presentValues: values };
  backend.run(`Flash/${heads}/${cache.heads}/${scale}/${window ?? 'all'}`, define, feeds, fetches);
}

function flashGraph(heads: number, kvHeads: number, scale: number, window: number | null) {
  const attributes = {
    num_heads: heads,
    kv_num_heads: kvHeads,
    scale: { float: scale },
    local_window_size: window ?? -1,
  };
  return graph((g) => {
    const rows = [g.input('q', 3), g.input('none', 3), 'none'];
    const past = [g.input('keys', 4), g.input('values', 4)];
    const lengths = [g.input('last', 1, 'int32'), g.input('length', 1, 'int32')];
    const results = g.ownAll('GroupQueryAttention', 3, [...rows, ...past, ...lengths], attributes);
    const [y, presentKeys, presentValues] = results as [string, string, string];
    g.output('y', 3, y);
    g.output('presentKeys', 4, presentKeys);
    g.output('presentValues', 4, presentValues);
  });
}
