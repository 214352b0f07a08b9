/**
 * Attention over pages of keys and values. One query at a time is bound by memory: every page is read once, where it
 * lies. Several queries are bound by arithmetic: the pages are first joined for the tiled kernel.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { FusedKernel, PagedAttentionAttributes } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import { flashAttention, flashable, type HeadsFirst } from './attention-flash.js';
import { attendByScores } from './attention-scores.js';
import { attendOnce, type Run } from './paged-decode.js';

type Inputs = Readonly<Record<string, TensorInfo>>;

export const pagedAttention: FusedKernel<'PagedAttention', CpuBackend> = (inputs, attrs, backend) => {
  const q = inputs.q as TensorInfo;
  const out = backend.output(q.shape);
  const [, time] = q.shape as [number, number];
  const { window, length } = attrs;
  const first = window === null ? 0 : Math.max(0, length - time - window + 1);
  const keys = runsOf(backend, inputs, 'key', first, attrs);
  const values = runsOf(backend, inputs, 'value', first, attrs);
  const heads = (inputs.key0 as TensorInfo).shape[1] as number;
  if (time === 1) attendOnce(backend, q, keys, values, out, { heads, scale: attrs.scale });
  else if (!flashable(q)) attendToJoined(backend, { q, out, keys, values }, heads, attrs);
  else if (keys.length === 1 && window === null) {
    const [key, value] = [keys[0] as Run, values[0] as Run];
    const cache = { keys: key.page, values: value.page, heads, capacity: attrs.pageSize, length };
    flashAttention(backend, q, cache, out, attrs);
  } else
    withJoined(backend, { q, keys, values }, heads, (cache) => {
      flashAttention(backend, q, cache, out, attrs);
    });
  return [out];
};

/** The rows of each page that hold positions `first` to `length - 1`. */
function runsOf(
  backend: CpuBackend,
  inputs: Inputs,
  name: 'key' | 'value',
  first: number,
  { length, pageSize }: PagedAttentionAttributes,
): Run[] {
  const runs: Run[] = [];
  for (let i = Math.floor(first / pageSize); i * pageSize < length; i++) {
    const from = Math.max(0, first - i * pageSize);
    const to = Math.min(pageSize, length - i * pageSize);
    runs.push({ page: backend.floats(inputs[`${name}${i}`] as TensorInfo), pageSize, from, to });
  }
  return runs;
}

interface Pages {
  readonly q: TensorInfo;
  readonly keys: readonly Run[];
  readonly values: readonly Run[];
}

function rowsIn(runs: readonly Run[]): number {
  return runs.reduce((sum, { from, to }) => sum + to - from, 0);
}

/** Lends the rows of all pages as one [B, H, length, D], with room for the views of a window. */
function withJoined(
  backend: CpuBackend,
  { q, keys, values }: Pages,
  heads: number,
  body: (cache: HeadsFirst) => void,
): void {
  const [batch, , , width] = q.shape as [number, number, number, number];
  const length = rowsIn(keys);
  const size = (batch * heads + 1) * length * width;
  backend.withScratch([size, size], ([allKeys, allValues]) => {
    join(keys, batch * heads, width, allKeys);
    join(values, batch * heads, width, allValues);
    body({ keys: allKeys, values: allValues, heads, capacity: length, length });
  });
}

/** Copies the rows of all pages, head after head. */
function join(runs: readonly Run[], heads: number, width: number, target: Floats): void {
  let to = 0;
  for (let h = 0; h < heads; h++) {
    for (const run of runs) {
      const start = h * run.pageSize * width;
      const rows = run.page.subarray(start + run.from * width, start + run.to * width);
      target.set(rows, to);
      to += rows.length;
    }
  }
}

/** Head widths that the tiled kernel does not take: one head after the other, as sequences of their own. */
function attendToJoined(
  backend: CpuBackend,
  { q, out, keys, values }: Pages & { readonly out: TensorInfo },
  heads: number,
  attrs: PagedAttentionAttributes,
): void {
  const [batch, , , width] = q.shape as [number, number, number, number];
  const length = rowsIn(keys);
  const shape = [batch, length, heads, width];
  const joined = [keys, values].map((runs) => {
    const tensor = backend.output(shape);
    const target = backend.floats(tensor);
    forEachRow(runs, batch * heads, (run, row, head, position) => {
      const at = ((Math.floor(head / heads) * length + position) * heads + (head % heads)) * width;
      const from = (head * run.pageSize + row) * width;
      target.set(run.page.subarray(from, from + width), at);
    });
    return tensor;
  });
  const [k, v] = joined as [TensorInfo, TensorInfo];
  attendByScores(backend, { q, k, v, out }, { ...attrs, positions: null });
  for (const tensor of joined) backend.disposeIntermediateTensorInfo(tensor);
}

function forEachRow(
  runs: readonly Run[],
  heads: number,
  body: (run: Run, row: number, head: number, position: number) => void,
): void {
  for (let head = 0; head < heads; head++) {
    let position = 0;
    for (const run of runs) for (let row = run.from; row < run.to; row++) body(run, row, head, position++);
  }
}
