/** Causal attention; `ops/attention`. Which route a call takes depends on what the queries see. */
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import { graph } from '../graph.js';
import { attendInBand, blocksAtOnce } from './attention-banded.js';
import { flashAttention, flashable } from './attention-flash.js';
import { attendByScores, type AttentionTensors, rowsFrom } from './attention-scores.js';

export const causalAttention: FusedKernel<'CausalAttention', CpuBackend> = ({ q, k, v }, attrs, backend) => {
  const out = backend.output(q.shape);
  const tensors: AttentionTensors = { q, k, v, out };
  const [batch, length] = k.shape as [number, number];
  const { window, scale } = attrs;
  if (attrs.positions !== null || !flashable(q)) attendByScores(backend, tensors, attrs);
  else
    for (let b = 0; b < batch; b++)
      if (window === null || window >= length) attendToAll(backend, tensors, { b, scale });
      else attendInWindow(backend, tensors, { b, window, scale });
  // The gradient recomputes whole rows of scores, so it needs no logSumExp.
  return [out, backend.output([0])];
};

/** Queries `start` to `start + count - 1` of sequence `b`, and the first key that any of them sees. */
interface Queries {
  readonly b: number;
  readonly start: number;
  readonly count: number;
  readonly firstKey: number;
}

function attendToAll(
  backend: CpuBackend,
  tensors: AttentionTensors,
  { b, scale }: { readonly b: number; readonly scale: number },
): void {
  const count = tensors.q.shape[1] as number;
  attendTiled(backend, tensors, { b, start: 0, count, firstKey: 0 }, { window: null, scale });
}

/** The queries that see less than a whole window, then whole blocks in a band, then the rest. */
function attendInWindow(
  backend: CpuBackend,
  tensors: AttentionTensors,
  { b, window, scale }: { readonly b: number; readonly window: number; readonly scale: number },
): void {
  const time = tensors.q.shape[1] as number;
  const offset = (tensors.k.shape[1] as number) - time;
  const tiled = (start: number, count: number) => {
    const firstKey = Math.max(0, offset + start - window + 1);
    if (count > 0) attendTiled(backend, tensors, { b, start, count, firstKey }, { window, scale });
  };
  if (blocksAtOnce(tensors, window) === 0) {
    tiled(0, time);
    return;
  }
  const head = Math.min(time, Math.max(0, window - 1 - offset));
  const count = Math.floor((time - head) / window);
  tiled(0, head);
  attendInBand(backend, tensors, { b, start: head, count }, { window, scale });
  tiled(head + count * window, time - head - count * window);
}

/** By the tiled kernel, which wants the heads of keys and values apart. */
function attendTiled(
  backend: CpuBackend,
  tensors: AttentionTensors,
  { b, start, count, firstKey }: Queries,
  attrs: { readonly window: number | null; readonly scale: number },
): void {
  const { q, k, v, out } = tensors;
  const [, total, heads, width] = k.shape as [number, number, number, number];
  const [, time, queryHeads] = q.shape as [number, number, number];
  const length = total - time + start + count - firstKey;
  const keyRows = { b, start: firstKey, length };
  // Room for the views of a window, which reach past the last head by less than its length.
  const size = (heads + 1) * length * width;
  backend.withScratch([size, size], ([keys, values]) => {
    transposeHeads(backend, rowsFrom(backend, k, keyRows), keys, [length, heads, width]);
    transposeHeads(backend, rowsFrom(backend, v, keyRows), values, [length, heads, width]);
    const rows = { b, start, length: count };
    const queries = { time: count, heads: queryHeads, width, scale: attrs.scale };
    const parts = { q: rowsFrom(backend, q, rows), out: rowsFrom(backend, out, rows) };
    const cache = { keys, values, heads, capacity: length, length };
    flashAttention(backend, { ...queries, ...parts }, cache, attrs.window);
  });
}

/** [T, H, D] as [H, T, D]. */
function transposeHeads(
  backend: CpuBackend,
  source: Floats,
  target: Floats,
  [time, heads, width]: readonly [number, number, number],
): void {
  const define = () =>
    graph((g) => {
      g.output('y', 3, g.op('Transpose', [g.input('x', 3)], { perm: [1, 0, 2] }));
    });
  const x = backend.runtime.wrap(source, [time, heads, width]);
  const y = backend.runtime.wrap(target.subarray(0, source.length), [heads, time, width]);
  backend.run('TransposeHeads', define, { x }, { y });
}
