/** Keys and values in a compressed cache; `ops/kernels.ts`, CompressRows and CompressedAttention. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { GROUP } from '../../../ops/attention/cache-type.js';
import { decodeGroup, groupOf, type Kind } from '../../../ops/attention/codes.js';
import { type CodeArrays, encodeRows } from '../../../ops/attention/code-page.js';
import type { CompressedAttentionAttributes, FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import { flashAttention } from './attention-flash.js';
import { rowsFrom } from './attention-scores.js';
import { attendByTasks, noteInfinities } from './coded-tasks.js';
import { attendToPages } from './compressed-decode.js';
import { emptySoftmax, finish, mergeAll, type Softmax } from './paged-decode.js';

type Inputs = Readonly<Record<string, TensorInfo | undefined>>;
type Shape4 = readonly [number, number, number, number];

const NONE = new Int32Array(0);

/** The words of a page. */
export function arraysOf(backend: CpuBackend, inputs: Inputs, page: number | ''): CodeArrays {
  const words = (name: string): Int32Array => {
    const tensor = inputs[`${name}${page}`];
    return tensor ? backend.integers(tensor) : NONE;
  };
  const pageGroups = ((inputs[`keyCodes${page}`] as TensorInfo).shape[2] as number) / GROUP;
  return {
    keyCodes: words('keyCodes'),
    valueCodes: words('valueCodes'),
    keyScales: words('keyScales'),
    valueScales: words('valueScales'),
    pageGroups,
  };
}

export const compressRows: FusedKernel<'CompressRows', CpuBackend> = (inputs, attrs, backend) => {
  const { keys, values, keyCodes, valueCodes, keyScales, valueScales } = inputs;
  // The kernels in C read codes wherever they lie, and float16 that is not finite as well.
  const isShared = backend.native === null;
  const moved =
    isShared &&
    [keyCodes, valueCodes, keyScales, valueScales].map((x) => x && backend.share(x)).includes(true);
  const raw = { key: backend.floats(keys), value: backend.floats(values) };
  const page = arraysOf(backend, inputs, '');
  encodeRows(page, raw, keys.shape as unknown as Shape4, attrs);
  if (isShared && attrs.type === 'float16') {
    // What moved may be a copy of another page, of which nothing is known.
    const groups = moved ? { group: 0, count: page.pageGroups } : attrs;
    noteInfinities(page, { ...groups, heads: keys.shape[0] * (keys.shape[1] as number) });
  }
  return [];
};

export const compressedAttention: FusedKernel<'CompressedAttention', CpuBackend> = (
  inputs,
  attrs,
  backend,
) => {
  const q = inputs.q as TensorInfo;
  const out = backend.output(q.shape);
  const { length, pageSize } = attrs;
  const coded = Math.floor((length - 1) / GROUP) * GROUP;
  const pages = Array.from({ length: Math.ceil(coded / pageSize) }, (_, i) => arraysOf(backend, inputs, i));
  const [, heads, rows] = (inputs.rawKeys as TensorInfo).shape as unknown as Shape4;
  const raw = {
    key: backend.floats(inputs.rawKeys as TensorInfo),
    value: backend.floats(inputs.rawValues as TensorInfo),
    rows,
  };
  const problem: Problem = { q, out, heads, pages, raw, attrs };
  if (q.shape[1] === 1) attendOnce(backend, problem);
  else attendByGroups(backend, problem);
  return [out];
};

interface Problem {
  readonly q: TensorInfo;
  readonly out: TensorInfo;
  /** Of keys and values. */
  readonly heads: number;
  readonly pages: readonly CodeArrays[];
  /** Keys and values as computed, [B, H, rows, D]. */
  readonly raw: Readonly<Record<Kind, Floats>> & { readonly rows: number };
  readonly attrs: CompressedAttentionAttributes;
}

/** One query a sequence: codes are read where they lie. */
function attendOnce(backend: CpuBackend, { q, out, heads, pages, raw, attrs }: Problem): void {
  const [batch, , queryHeads, width] = q.shape as unknown as Shape4;
  const { type, length, scale, rawStart, rawRow } = attrs;
  const group = queryHeads / heads;
  const softmax = emptySoftmax(batch * queryHeads, width);
  const scaled = backend.floats(q).map((value) => value * scale);
  const newest = Math.floor((length - 1) / GROUP) * GROUP;
  const context = { type, pages, groups: newest / GROUP, heads: batch * heads, width, queries: scaled };
  if (!attendByTasks(backend, context, softmax)) attendToPages(backend, context, softmax);
  const rows = length - newest;
  for (let row = 0; row < batch * queryHeads; row++) {
    const from = (Math.floor(row / group) * raw.rows + rawRow + newest - rawStart) * width;
    const own = (x: Floats): Floats => x.subarray(from, from + rows * width);
    attendToRows(scaled.subarray(row * width, (row + 1) * width), own(raw.key), own(raw.value), softmax, row);
  }
  finish(softmax, backend.floats(out), width);
}

/** One query and the few rows of its own group: done before a call of ONNX Runtime would have woken its threads. */
function attendToRows(query: Floats, keys: Floats, values: Floats, softmax: Softmax, row: number): void {
  const width = query.length;
  const scores = new Float64Array(keys.length / width);
  for (let t = 0; t < scores.length; t++) {
    let score = 0;
    for (let d = 0; d < width; d++) score += (query[d] as number) * (keys[t * width + d] as number);
    scores[t] = score;
  }
  const maximum = scores.reduce((a, b) => Math.max(a, b));
  const weighted = new Float32Array(width);
  let sum = 0;
  for (const [t, score] of scores.entries()) {
    const weight = Math.exp(score - maximum);
    sum += weight;
    for (let d = 0; d < width; d++)
      weighted[d] = (weighted[d] as number) + weight * (values[t * width + d] as number);
  }
  mergeAll(softmax, row, width, { maximum: Float32Array.of(maximum), sum: Float32Array.of(sum), weighted });
}

/**
 * Several queries: the codes of a sequence are decoded once, and its groups attend one after the other, each while its own
 * rows are in the place of their codes.
 */
function attendByGroups(backend: CpuBackend, problem: Problem): void {
  const { q, out, heads, raw, attrs } = problem;
  const [batch, time, queryHeads, width] = q.shape as unknown as Shape4;
  const { length, scale, rawStart, rawRow } = attrs;
  const size = heads * length * width;
  for (let b = 0; b < batch; b++) {
    backend.withScratch([size, size], (joined) => {
      const all = { key: joined[0], value: joined[1] };
      decodeAll(problem, b, all);
      const own = (start: number, end: number): void => {
        for (const kind of ['key', 'value'] as const)
          for (let head = 0; head < heads; head++) {
            const from = ((b * heads + head) * raw.rows + rawRow + start - rawStart) * width;
            const rows = raw[kind].subarray(from, from + (end - start) * width);
            all[kind].set(rows, (head * length + start) * width);
          }
      };
      for (let position = length - time; position < length;) {
        const start = Math.floor(position / GROUP) * GROUP;
        const end = Math.min(start + GROUP, length);
        const rows = { b, start: position - (length - time), length: end - position };
        own(start, end);
        const queries = { q: rowsFrom(backend, q, rows), out: rowsFrom(backend, out, rows) };
        const shape = { time: rows.length, heads: queryHeads, width, scale };
        const cache = { keys: all.key, values: all.value, heads, capacity: length, length: end };
        flashAttention(backend, { ...queries, ...shape }, cache, null);
        if (end < length) decodeAll(problem, b, all, start);
        position = end;
      }
    });
  }
}

/** Decodes the groups of a sequence into [H, length, D]: all, or the one at position `only`. */
function decodeAll(
  { heads, pages, q, attrs }: Problem,
  b: number,
  all: Readonly<Record<Kind, Floats>>,
  only?: number,
): void {
  const width = q.shape[3] as number;
  const { type, length, pageSize } = attrs;
  const end = only === undefined ? Math.floor((length - 1) / GROUP) * GROUP : only + GROUP;
  for (let at = only ?? 0; at < end; at += GROUP) {
    const page = pages[Math.floor(at / pageSize)] as CodeArrays;
    for (let head = 0; head < heads; head++)
      for (const kind of ['key', 'value'] as const) {
        const words = { codes: page[`${kind}Codes`], scales: page[`${kind}Scales`] };
        const group = (at % pageSize) / GROUP;
        const where = { head: b * heads + head, group, pageGroups: page.pageGroups, width };
        const from = (head * length + at) * width;
        const rows = all[kind].subarray(from, from + GROUP * width);
        decodeGroup(type, kind, groupOf(type, kind, words, where), rows);
      }
  }
}
