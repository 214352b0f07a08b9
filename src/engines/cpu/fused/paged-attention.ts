/**
 * Attention over pages of keys and values. One query at a time is bound by memory: every page is read once, where it
 * lies. Several queries are bound by arithmetic: the pages are first joined for the tiled kernel.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { FusedKernel, PagedAttentionAttributes } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import { flashAttention, flashable, type HeadsFirst } from './attention-flash.js';
import { attendByScores, rowsFrom } from './attention-scores.js';
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
  const pages: Pages = { q, out, keys, values };
  if (time === 1) attendOnce(backend, q, keys, values, out, { heads, scale: attrs.scale });
  else if (!flashable(q)) attendToJoined(backend, pages, heads, attrs);
  else attendTiled(backend, pages, heads, attrs);
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
  readonly out: TensorInfo;
  readonly keys: readonly Run[];
  readonly values: readonly Run[];
}

/** By the tiled kernel, one sequence at a time: a single page is read where it lies, several are joined. */
function attendTiled(
  backend: CpuBackend,
  pages: Pages,
  heads: number,
  attrs: PagedAttentionAttributes,
): void {
  const { q, out, keys, values } = pages;
  const [batch, time, queryHeads, width] = q.shape as [number, number, number, number];
  const { window, scale, pageSize } = attrs;
  for (let b = 0; b < batch; b++) {
    const rows = { b, start: 0, length: time };
    const queries = {
      q: rowsFrom(backend, q, rows),
      out: rowsFrom(backend, out, rows),
      time,
      heads: queryHeads,
      width,
      scale,
    };
    const [key, value] = [keys[0] as Run, values[0] as Run];
    if (keys.length === 1 && window === null) {
      const from = b * heads * pageSize * width;
      const whole = { heads, capacity: pageSize, length: attrs.length };
      const cache = { ...whole, keys: key.page.subarray(from), values: value.page.subarray(from) };
      flashAttention(backend, queries, cache, null);
    } else {
      withJoined(backend, pages, { b, heads }, (cache) => {
        flashAttention(backend, queries, cache, window);
      });
    }
  }
}

function rowsIn(runs: readonly Run[]): number {
  return runs.reduce((sum, { from, to }) => sum + to - from, 0);
}

/** Lends the rows of all pages of sequence `b` as one [H, length, D], with room for the views of a window. */
function withJoined(
  backend: CpuBackend,
  { q, keys, values }: Pages,
  { b, heads }: { readonly b: number; readonly heads: number },
  body: (cache: HeadsFirst) => void,
): void {
  const width = q.shape[3] as number;
  const length = rowsIn(keys);
  const size = (heads + 1) * length * width;
  backend.withScratch([size, size], ([allKeys, allValues]) => {
    join(keys, { first: b * heads, heads, width }, allKeys);
    join(values, { first: b * heads, heads, width }, allValues);
    body({ keys: allKeys, values: allValues, heads, capacity: length, length });
  });
}

/** Copies the rows of all pages, head after head. */
function join(
  runs: readonly Run[],
  { first, heads, width }: { readonly first: number; readonly heads: number; readonly width: number },
  target: Floats,
): void {
  let to = 0;
  for (let head = first; head < first + heads; head++)
    for (const { page, pageSize, from, to: end } of runs) {
      const start = head * pageSize * width;
      const rows = page.subarray(start + from * width, start + end * width);
      target.set(rows, to);
      to += rows.length;
    }
}

/** Head widths that the tiled kernel does not take: one head after the other, as sequences of their own. */
function attendToJoined(
  backend: CpuBackend,
  { q, out, keys, values }: Pages,
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
