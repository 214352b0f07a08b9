/**
 * Attention in a short window: blocks of as many queries as the window is long, each against its own keys and those of
 * the block before, all blocks in one batched product. Which of these keys a query sees is the same in every block.
 */
import type { CpuBackend } from '../backend.js';
import { graph } from '../graph.js';
import type { Graph } from '../onnx.js';
import { type AttentionTensors, type GroupShape, groupShape, rowsFrom } from './attention-scores.js';

/** Scores per run: 4 MiB. */
const SCORES_AT_ONCE = 2 ** 19;

interface Band {
  readonly window: number;
  readonly scale: number;
}

/** Blocks per run; none where the scores of a single block are too many. */
export function blocksAtOnce({ q }: AttentionTensors, window: number): number {
  return Math.floor(SCORES_AT_ONCE / ((q.shape[2] ?? 1) * 2 * window * window));
}

/** `count` blocks of `window` queries of sequence `b` from `start` on, the first of which sees a whole window. */
export function attendInBand(
  backend: CpuBackend,
  tensors: AttentionTensors,
  { b, start, count }: { readonly b: number; readonly start: number; readonly count: number },
  band: Band,
): void {
  const shape = groupShape(tensors);
  const [kvHeads, group, width] = shape;
  const { window, scale } = band;
  const { runtime } = backend;
  const offset = (tensors.k.shape[1] ?? 0) - (tensors.q.shape[1] ?? 0);
  const most = blocksAtOnce(tensors, window);
  for (let block = 0; block < count; block += most) {
    const blocks = Math.min(most, count - block);
    const first = start + block * window;
    const queryRows = { b, start: first, length: blocks * window };
    const keyRows = { b, start: offset + first - window + 1, length: (blocks + 1) * window - 1 };
    const queryDims = [blocks, window, kvHeads, group, width];
    const keyDims = [keyRows.length, kvHeads, width];
    const feeds = {
      q: runtime.wrap(rowsFrom(backend, tensors.q, queryRows), queryDims),
      k: runtime.wrap(rowsFrom(backend, tensors.k, keyRows), keyDims),
      v: runtime.wrap(rowsFrom(backend, tensors.v, keyRows), keyDims),
      hidden: runtime.wrap(hiddenKeys(window), [window, 2 * window]),
    };
    const out = runtime.wrap(rowsFrom(backend, tensors.out, queryRows), queryDims);
    backend.run(`Band/${window}/${shape.join()}/${scale}`, () => bandGraph(shape, band), feeds, { out });
  }
}

const masks = new Map<number, Float32Array>();

/** [window, 2 window]: query r of a block is key window + r of its keys, and sees it and the window - 1 before. */
function hiddenKeys(window: number): Float32Array {
  const known = masks.get(window);
  if (known) return known;
  const mask = new Float32Array(window * 2 * window).fill(-Infinity);
  for (let row = 0; row < window; row++) {
    const from = row * 2 * window + row + 1;
    mask.fill(0, from, from + window);
  }
  masks.set(window, mask);
  return mask;
}

function bandGraph([kvHeads, , width]: GroupShape, { window, scale }: Band): Graph {
  return graph((g) => {
    const queries = g.op('Transpose', [g.input('q', 5)], { perm: [0, 2, 3, 1, 4] });
    /** Keys or values of every block and the one before, [blocks, Hkv, 1, 2 window, D]. */
    const pairs = (name: string): string => {
      // The first key of the first block is one too old to be seen and need not exist.
      const padded = g.op('Pad', [g.input(name, 3), g.integers(1, 0, 0, 0, 0, 0)]);
      const split = g.op('Reshape', [padded, g.integers(-1, window, kvHeads, width)]);
      const before = g.op('Slice', [split, g.integers(0), g.integers(-1), g.integers(0)]);
      const own = g.op('Slice', [split, g.integers(1), g.integers(2 ** 31), g.integers(0)]);
      const both = g.op('Concat', [before, own], { axis: 1 });
      return g.op('Unsqueeze', [g.op('Transpose', [both], { perm: [0, 2, 1, 3] }), g.integers(2)]);
    };
    const scores = g.product(queries, pairs('k'), { transB: 1, alpha: scale });
    const weights = g.op('Softmax', [g.op('Add', [scores, g.input('hidden', 2)])], { axis: -1 });
    const out = g.product(weights, pairs('v'));
    g.output('out', 5, g.op('Transpose', [out], { perm: [0, 3, 1, 2, 4] }));
  });
}
