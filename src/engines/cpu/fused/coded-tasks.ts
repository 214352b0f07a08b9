/** Attention of a single query per sequence over codes, by the WebAssembly kernels: they read the codes where they lie. */
import { type CacheType, codeWords, GROUP } from '../../../ops/attention/cache-type.js';
import { halvesOf } from '../../../ops/attention/codes.js';
import type { CodeArrays } from '../../../ops/attention/code-page.js';
import type { CpuBackend, Floats } from '../backend.js';
import type { SharedArena } from '../wasm/arena.js';
import { type AttentionKernel, attentionKernel, hasAttentionKernel } from '../wasm/kernels.js';
import { TASK_BYTES } from '../wasm/team.js';
import type { Task } from '../wasm/kernel.js';
import { mergeAll, type Softmax } from './paged-decode.js';

/** Pages of codes, and the queries that read them. */
export interface CodedContext {
  readonly type: CacheType;
  readonly pages: readonly CodeArrays[];
  /** Groups that are coded, in all pages. */
  readonly groups: number;
  /** Of all sequences. */
  readonly heads: number;
  readonly width: number;
  /** [heads, group, width], scaled. */
  readonly queries: Floats;
}

/** Groups of a task: 4,096 positions, more where there were too many tasks. */
const TASK_GROUPS = 64;
const MOST_TASKS = 2 ** 15;

const kernels = new Map<string, AttentionKernel>();

function kernelFor(type: CacheType, width: number, queries: number, arena: SharedArena): AttentionKernel {
  const key = `${type}/${width}/${queries}/${arena.maximum}`;
  const kernel = kernels.get(key) ?? attentionKernel({ type, width, queries }, arena.maximum);
  kernels.set(key, kernel);
  return kernel;
}

/** A part of a head's codes. */
interface Part {
  readonly head: number;
  readonly page: CodeArrays;
  readonly first: number;
  readonly count: number;
}

/**
 * Takes all codes into the softmax.
 * @returns false, and does nothing, where the kernels do not take the shape or cannot reach the codes
 */
export function attendByTasks(backend: CpuBackend, context: CodedContext, softmax: Softmax): boolean {
  const { type, width, heads, pages, queries } = context;
  const group = queries.length / (heads * width);
  const threads = hasAttentionKernel({ type, width, queries: group }) ? backend.attentionThreads : null;
  if (!threads || !pages.every((page) => isReachable(page, threads.arena))) return false;
  const { arena, team } = threads;
  const kernel = kernelFor(type, width, group, arena);
  const parts = partsOf(context);
  const [taskBytes, resultBytes] = [parts.length * TASK_BYTES, 4 * parts.length * kernel.resultFloats];
  const bytes = taskBytes + queries.byteLength + resultBytes;
  const at = arena.take(bytes);
  if (at === undefined) return false;
  const floats = (from: number, length: number): Float32Array =>
    new Float32Array(arena.memory.buffer, from, length);
  const queriesAt = at + taskBytes;
  const resultsAt = queriesAt + queries.byteLength;
  arrangeQueries(kernel, queries, floats(queriesAt, queries.length));
  const results = floats(resultsAt, parts.length * kernel.resultFloats);
  const resultOf = (i: number): Float32Array =>
    results.subarray(i * kernel.resultFloats, (i + 1) * kernel.resultFloats);
  results.fill(0);
  for (let i = 0; i < parts.length; i++) resultOf(i).fill(-Infinity, 0, group);
  const tasks = parts.map((part, i) => ({
    ...addressesOf(type, width, part),
    queries: queriesAt + 4 * part.head * group * width,
    result: resultsAt + 4 * i * kernel.resultFloats,
    groups: part.count,
  }));
  team.run(kernel, tasks, at);
  for (const [i, { head }] of parts.entries()) mergeResult(kernel, resultOf(i), softmax, head * group);
  arena.give(at, bytes);
  return true;
}

/** Codes among which there is a float16 that is not finite: the kernels would take it for a number. */
const withInfinities = new WeakSet<Int32Array>();

/** Looks at `count` groups from `group` on of all heads of a page of float16. */
export function noteInfinities(
  { keyCodes, valueCodes, pageGroups }: CodeArrays,
  { heads, group, count }: { readonly heads: number; readonly group: number; readonly count: number },
): void {
  const EXPONENT = 0x7c00;
  for (const codes of [keyCodes, valueCodes]) {
    const halves = halvesOf(codes);
    const perGroup = halves.length / (heads * pageGroups);
    for (let head = 0; head < heads; head++) {
      const from = (head * pageGroups + group) * perGroup;
      const some = halves.subarray(from, from + count * perGroup);
      if (some.some((half) => (half & EXPONENT) === EXPONENT)) withInfinities.add(codes);
    }
  }
}

function isReachable(page: CodeArrays, arena: SharedArena): boolean {
  const { keyCodes, valueCodes, keyScales, valueScales } = page;
  if (withInfinities.has(keyCodes) || withInfinities.has(valueCodes)) return false;
  return [keyCodes, valueCodes, keyScales, valueScales].every(
    (words) => words.length === 0 || arena.owns(words),
  );
}

function partsOf({ pages, groups, heads }: CodedContext): Part[] {
  const most = Math.max(TASK_GROUPS, Math.ceil((groups * heads) / MOST_TASKS));
  const parts: Part[] = [];
  for (let head = 0; head < heads; head++) {
    let left = groups;
    for (const page of pages) {
      const own = Math.min(left, page.pageGroups);
      for (let first = 0; first < own; first += most)
        parts.push({ head, page, first, count: Math.min(most, own - first) });
      left -= own;
    }
  }
  return parts;
}

function addressesOf(
  type: CacheType,
  width: number,
  { head, page, first }: Part,
): Pick<Task, 'keyCodes' | 'valueCodes' | 'keyScales' | 'valueScales'> {
  const words = codeWords(type, width);
  const group = head * page.pageGroups + first;
  const address = (array: Int32Array, perGroup: number): number => array.byteOffset + 4 * group * perGroup;
  return {
    keyCodes: address(page.keyCodes, GROUP * words.codes),
    valueCodes: address(page.valueCodes, GROUP * words.codes),
    keyScales: address(page.keyScales, words.keyScales),
    valueScales: address(page.valueScales, words.valueScales),
  };
}

function arrangeQueries(
  { shape: { width }, queryOrder, factor }: AttentionKernel,
  from: Floats,
  to: Float32Array,
): void {
  for (let row = 0; row < from.length; row += width)
    for (let d = 0; d < width; d++) to[row + (queryOrder[d] as number)] = (from[row + d] as number) * factor;
}

/** A result is laid out as `resultFloats` says. */
function mergeResult(kernel: AttentionKernel, result: Float32Array, softmax: Softmax, first: number): void {
  const { shape, resultOrder, factor } = kernel;
  const { queries, width } = shape;
  const part = (index: number): Float32Array => result.subarray(index * queries, (index + 1) * queries);
  const [maximum, sum, shift] = [part(0), part(1), part(2)];
  const values = result.subarray(3 * queries);
  const weighted = new Float32Array(queries * width);
  for (let query = 0; query < queries; query++)
    for (let d = 0; d < width; d++) {
      const value = values[query * width + (resultOrder[d] as number)] as number;
      weighted[query * width + d] = value * factor + (shift[query] as number);
    }
  mergeAll(softmax, first, width, { maximum, sum, weighted });
}
