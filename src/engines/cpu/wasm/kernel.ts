/**
 * Attention of the queries of a head to coded keys and values, as a WebAssembly function written for a type, a width of heads
 * and a number of queries. Its steps are groups of 64 positions: scores, their exponentials (an online softmax), weighted values.
 */
import { type CacheType, codeWords, GROUP } from '../../../ops/attention/cache-type.js';
import {
  type Code,
  f32,
  f32x4,
  FunctionWriter,
  i32,
  i32x4,
  type Local,
  shuffle32,
  v128,
} from './assembler.js';

export interface Shape {
  readonly type: CacheType;
  readonly width: number;
  /** Queries: the query heads that share the head. */
  readonly queries: number;
}

/** Words of a task: addresses, but for the number of groups. */
export const TASK = [
  'keyCodes',
  'valueCodes',
  'keyScales',
  'valueScales',
  'queries',
  'result',
  'groups',
] as const;
export type Task = Readonly<Record<(typeof TASK)[number], number>>;

/**
 * Floats of a result: per query the largest score, the sum of exponentials and what is to be added to every weighted value; then the
 * weighted values [queries, width], in the order of the type.
 */
export const resultFloats = ({ queries, width }: Shape): number => queries * (3 + width);

/** What the parts of a kernel share. */
export interface Context extends Shape {
  readonly f: FunctionWriter;
  readonly task: Readonly<Record<keyof Task, Local>>;
  /** Memory of the thread; scores and weights [queries, GROUP] come first. */
  readonly scratch: Local;
}

/** Bytes of scores and weights at the beginning of the scratch memory. */
export const SCORE_BYTES = GROUP * 4;

/** Queries whose sums fit the registers together. */
const TILE = 2;
/** Positions whose scores are computed together. */
const ROWS = 4;

/** What differs between types. */
export interface Codec {
  /** What a group needs first. */
  prepare(): void;
  /** Partial products of a query with a key: f32x4 or i32x4. */
  readonly add: (a: Code, b: Code) => Code;
  /** Emits, for `ROWS` keys from an address on and each query, the four partial sums of their product. */
  products(keys: Local, queries: readonly number[]): Local[][];
  /** Scores from the sums of partial products of four keys. */
  score(sums: Code, query: number): Code;
  /** Emits the weights of four positions, whose exponentials are given, to `at` in the scratch memory of the query. */
  weigh(exponentials: Local, at: Local, query: number): void;
  /** What follows the last weights of a query. */
  weighed(query: number): void;
  /** Adds the weighted values of the group to the result. */
  values(tile: readonly number[]): void;
}

/** Offsets in a result, in bytes. */
export function resultOffsets({ queries, width }: Shape): {
  maximum: (query: number) => number;
  sum: (query: number) => number;
  shift: (query: number) => number;
  value: (query: number, element: number) => number;
} {
  return {
    maximum: (query) => 4 * query,
    sum: (query) => 4 * (queries + query),
    shift: (query) => 4 * (2 * queries + query),
    value: (query, element) => 4 * (3 * queries + query * width + element),
  };
}

export function kernelOf(shape: Shape, codecOf: (context: Context) => Codec): FunctionWriter {
  const f = new FunctionWriter(2);
  const [at, scratch] = f.parameters as [Local, Local];
  const entries = TASK.map((name, i) => [name, f.address(i32.load(at.get, 4 * i))]);
  const context = { ...shape, f, scratch, task: Object.fromEntries(entries) as Context['task'] };
  const codec = codecOf(context);
  f.repeat(() => {
    codec.prepare();
    const maxima = emitScores(context, codec);
    for (let query = 0; query < shape.queries; query++)
      emitSoftmax(context, codec, query, maxima[query] as Local);
    for (const tile of tiles(shape.queries)) codec.values(tile);
    return nextGroup(context);
  });
  return f;
}

function tiles(queries: number): number[][] {
  const all = Array.from({ length: queries }, (_, query) => query);
  return Array.from({ length: Math.ceil(queries / TILE) }, (_, i) => all.slice(i * TILE, (i + 1) * TILE));
}

/** Goes to the next group; whether there is one. */
function nextGroup({ f, task, type, width }: Context): Code {
  const words = codeWords(type, width);
  const advance = (local: Local, by: number): void => {
    f.emit(local.set(i32.add(local.get, i32.const(by))));
  };
  for (const kind of ['key', 'value'] as const) {
    advance(task[`${kind}Codes`], 4 * GROUP * words.codes);
    advance(task[`${kind}Scales`], 4 * words[`${kind}Scales`]);
  }
  advance(task.groups, -1);
  return task.groups.get;
}

/** Scores [queries, GROUP]; returns vectors with the largest of each query. */
function emitScores(context: Context, codec: Codec): Local[] {
  const { f, task, scratch, queries, type, width } = context;
  const rowBytes = 4 * codeWords(type, width).codes;
  const maxima = Array.from({ length: queries }, () => f.vector(f32x4.all(-Infinity)));
  const target = f.address(scratch.get);
  f.walk(task.keyCodes.get, GROUP * rowBytes, ROWS * rowBytes, (keys) => {
    for (const tile of tiles(queries)) {
      const products = codec.products(keys, tile);
      for (const [i, query] of tile.entries()) {
        const maximum = maxima[query] as Local;
        const scores = f.vector(codec.score(sumRows(f, products[i] as Local[], codec.add), query));
        f.emit(v128.store(target.get, scores.get, query * SCORE_BYTES));
        f.emit(maximum.set(f32x4.pmax(maximum.get, scores.get)));
      }
    }
    f.emit(target.set(i32.add(target.get, i32.const(4 * ROWS))));
  });
  return maxima;
}

/** The sums of four vectors' lanes, as one vector. */
export function sumRows(f: FunctionWriter, rows: readonly Local[], add: Codec['add']): Code {
  const [a, b, c, d] = rows as [Local, Local, Local, Local];
  const pairs = (x: Local, y: Local): Local =>
    f.vector(add(shuffle32(x.get, y.get, [0, 4, 1, 5]), shuffle32(x.get, y.get, [2, 6, 3, 7])));
  const [low, high] = [pairs(a, b), pairs(c, d)];
  return add(shuffle32(low.get, high.get, [0, 1, 4, 5]), shuffle32(low.get, high.get, [2, 3, 6, 7]));
}

/** All lanes: the four lanes of x, combined. */
export function combineLanes(f: FunctionWriter, x: Local, combine: (a: Code, b: Code) => Code): void {
  for (const lanes of [[2, 3, 0, 1], [1, 0, 3, 2]]) f.emit(x.set(combine(x.get, shuffle32(x.get, x.get, lanes)))); // prettier-ignore
}

/** Makes weights of the scores of a query, and brings what was summed before to the new largest score. */
function emitSoftmax(context: Context, codec: Codec, query: number, maximum: Local): void {
  const { f, task, scratch, width } = context;
  const offsets = resultOffsets(context);
  const result = task.result.get;
  combineLanes(f, maximum, f32x4.pmax);
  const before = f.vector(v128.load32_splat(result, offsets.maximum(query)));
  f.emit(maximum.set(f32x4.pmax(before.get, maximum.get)));
  f.if(f32.gt(f32x4.first(maximum.get), f32x4.first(before.get)), () => {
    const keep = f.vector(exponential(f, f32x4.sub(before.get, maximum.get)));
    f.emit(f32.store(result, f32x4.first(maximum.get), offsets.maximum(query)));
    for (const at of [offsets.sum(query), offsets.shift(query)])
      f.emit(f32.store(result, f32.mul(f32.load(result, at), f32x4.first(keep.get)), at));
    f.walk(i32.add(result, i32.const(offsets.value(query, 0))), 4 * width, 16, (at) => {
      f.emit(v128.store(at.get, f32x4.mul(v128.load(at.get), keep.get)));
    });
  });
  const sum = f.vector(v128.zero);
  f.walk(i32.add(scratch.get, i32.const(query * SCORE_BYTES)), SCORE_BYTES, 16, (at) => {
    const exponentials = f.vector(exponential(f, f32x4.sub(v128.load(at.get), maximum.get)));
    f.emit(sum.set(f32x4.add(sum.get, exponentials.get)));
    codec.weigh(exponentials, at, query);
  });
  combineLanes(f, sum, f32x4.add);
  const at = offsets.sum(query);
  f.emit(f32.store(result, f32.add(f32.load(result, at), f32x4.first(sum.get)), at));
  codec.weighed(query);
}

/** Below it an exponential is not a normal number; it counts as the smallest one. */
const LEAST_EXPONENT = -87;
/** ln 2 in two parts, and the coefficients from r^7 on, of S. L. Moshier's Cephes library (expf). */
const LN2 = [0.693359375, -2.1219444e-4] as const;
const COEFFICIENTS = [1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5];

/**
 * Where lanes of up to 2^22 hold whole numbers when it is added: their lowest bits are that number, rounded to the nearest. WebAssembly's
 * own conversion takes several instructions of a processor.
 */
export const ROUNDER = 1.5 * 2 ** 23;

/** e^x for x of at most 0: 2^n e^r with |r| up to ln(2) / 2. A NaN stays one. */
function exponential(f: FunctionWriter, x: Code): Code {
  const bounded = f.vector(f32x4.pmax(x, f32x4.all(LEAST_EXPONENT)));
  const shifted = f.vector(f32x4.add(f32x4.mul(bounded.get, f32x4.all(Math.LOG2E)), f32x4.all(ROUNDER)));
  const n = f.vector(f32x4.sub(shifted.get, f32x4.all(ROUNDER)));
  const minus = (from: Code, part: number): Code => f32x4.sub(from, f32x4.mul(n.get, f32x4.all(part)));
  const r = f.vector(minus(minus(bounded.get, LN2[0]), LN2[1]));
  const series = [...COEFFICIENTS, 1, 1].map((coefficient) => f32x4.all(coefficient));
  const value = series.reduce((sum, coefficient) => f32x4.add(f32x4.mul(sum, r.get), coefficient));
  const scaled = i32x4.add(value, i32x4.shl(shifted.get, i32.const(23)));
  return v128.or(scaled, f32x4.ne(bounded.get, bounded.get));
}
