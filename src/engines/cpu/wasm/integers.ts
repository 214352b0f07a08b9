/**
 * Codes that are steps from a minimum, `int8` and `int4`, multiplied as integers. The queries, times the scales of a group's
 * channels, are rounded to 16 bits of the largest of the group, and so are the weights, times the scales of the positions: an element
 * is off by at most 1 / 65534 of it. Sums of products are exact (32 bits hold 512 products of 2^22), and what the minima add
 * is computed in float32.
 */
import { codeWords, GROUP } from '../../../ops/attention/cache-type.js';
import { type Code, f32, f32x4, i16x8, i32, i32x4, type Local, shuffle16, v128 } from './assembler.js';
import { type Codec, combineLanes, type Context, resultOffsets, ROUNDER, SCORE_BYTES } from './kernel.js';

export type IntegerType = 'int8' | 'int4';

const LARGEST = 32767;
/** Where all are smaller they count as zeros: steps of zero have no inverse. */
const LEAST = 1e-30;

/** Elements of values that are summed together. */
const BLOCK = 16;

/** Where element `d` of a head lies among results: int4 has the even elements of 16 first. */
export function integerOrder(type: IntegerType, d: number): number {
  if (type === 'int8') return d;
  return d - (d % BLOCK) + (d % 2) * (BLOCK / 2) + Math.floor((d % BLOCK) / 2);
}

/** Where a thread keeps what, in bytes. */
function placesOf({ queries, width }: Context): {
  scaled: (query: number) => number;
  rounded: (query: number) => number;
  weights: (query: number) => number;
  scales: number;
  bases: number;
} {
  const scaled = queries * SCORE_BYTES;
  const rounded = scaled + queries * width * 4;
  const weights = rounded + queries * width * 2;
  const scales = weights + queries * GROUP * 2;
  return {
    scaled: (query) => scaled + query * width * 4,
    rounded: (query) => rounded + query * width * 2,
    weights: (query) => weights + query * GROUP * 2,
    scales,
    bases: scales + GROUP * 4,
  };
}

/** Float16 in the upper halves of lanes as float32; infinities become NaN. */
function halves({ f }: Context, lanes: Code): Local {
  const x = f.vector(lanes);
  const magnitude = i32x4.shr_u(v128.and(x.get, i32x4.all(0x7fff0000)), i32.const(3));
  const value = f.vector(f32x4.mul(magnitude, f32x4.all(2 ** 112)));
  const beyond = f32x4.ge(value.get, f32x4.all(65536));
  const sign = v128.and(x.get, i32x4.all(0x80000000 | 0));
  return f.vector(v128.or(v128.or(value.get, sign), beyond));
}

/** The lower halves of eight lanes of 32 bits. */
const LOWER = Array.from({ length: 8 }, (_, i) => 2 * i);

/** Sixteen numbers of 16 bits as they are, or the even ones first. */
const inOrder = (low: Local, high: Local): Code[] => [low.get, high.get];
const evenFirst = (low: Local, high: Local): Code[] =>
  [0, 1].map((odd) =>
    shuffle16(
      low.get,
      high.get,
      Array.from({ length: 8 }, (_, i) => 2 * i + odd),
    ),
  );

const upper = (lanes: Code): Code => i32x4.shl(lanes, i32.const(16));

export function integerCodec(context: Context, type: IntegerType): Codec {
  const { f, task, scratch, queries, width } = context;
  const places = placesOf(context);
  const rowBytes = 4 * codeWords(type, width).codes;
  /**
   * The middle of the codes, from which rounding counts: a rounded factor is off by as much of what it multiplies. int8 is stored as a
   * difference from it.
   */
  const middle = type === 'int8' ? 128 : 8;
  /** What is to be subtracted from stored codes. */
  const excess = type === 'int8' ? 0 : middle;
  const each = <T>(make: (query: number) => T): T[] =>
    Array.from({ length: queries }, (_, query) => make(query));
  /** What all weighted codes of a query are multiplied by, and what is added to its scores. */
  const [steps, bases] = [each(() => f.vector()), each(() => f.vector())];
  const [valueSteps, shifts] = [each(() => f.vector()), each(() => f.vector())];

  /** minimum + middle · scale */
  const base = (scale: Local, minimum: Local): Local =>
    f.vector(f32x4.add(minimum.get, f32x4.mul(scale.get, f32x4.all(middle))));

  /**
   * `step` holds the largest magnitude: it becomes that of one of `LARGEST` steps. Rounds `count` floats to 16 bits, and takes from
   * `sum` what they add too much by the excess of the codes.
   */
  const round = (step: Local, sum: Local, from: Code, to: Code, count: number, arranged = inOrder): void => {
    combineLanes(f, step, f32x4.pmax);
    f.emit(step.set(f32x4.pmax(step.get, f32x4.all(LEAST))));
    const inverse = f.vector(f32x4.div(f32x4.all(LARGEST), step.get));
    f.emit(step.set(f32x4.mul(step.get, f32x4.all(1 / LARGEST))));
    const target = f.address(to);
    const total = f.vector(v128.zero);
    const whole = (at: Local, place: number): Local => {
      const x = f.vector(f32x4.add(f32x4.mul(v128.load(at.get, place), inverse.get), f32x4.all(ROUNDER)));
      if (excess > 0) f.emit(total.set(f32x4.add(total.get, f32x4.sub(x.get, f32x4.all(ROUNDER)))));
      return x;
    };
    f.walk(from, 4 * count, 64, (at) => {
      const [low, high] = [0, 32].map((half) => {
        const [a, b] = [whole(at, half), whole(at, half + 16)];
        return f.vector(shuffle16(a.get, b.get, LOWER));
      }) as [Local, Local];
      for (const [i, x] of arranged(low, high).entries()) f.emit(v128.store(target.get, x, 16 * i));
      f.emit(target.set(i32.add(target.get, i32.const(32))));
    });
    if (excess === 0) return;
    f.emit(sum.set(f32x4.sub(sum.get, f32x4.mul(f32x4.mul(total.get, step.get), f32x4.all(excess)))));
  };
  const at = (bytes: number): Code => i32.add(scratch.get, i32.const(bytes));

  const prepareQueries = (): void => {
    const query = f.address(task.queries.get);
    const target = f.address(scratch.get);
    for (let g = 0; g < queries; g++)
      f.emit((steps[g] as Local).set(v128.zero), (bases[g] as Local).set(v128.zero));
    f.walk(task.keyScales.get, 2 * width, 8, (scales) => {
      const scale = halves(context, upper(v128.load16x4_u(scales.get)));
      const minimum = halves(context, upper(v128.load16x4_u(scales.get, 2 * width)));
      const added = base(scale, minimum);
      for (let g = 0; g < queries; g++) {
        const [step, sum] = [steps[g] as Local, bases[g] as Local];
        const q = f.vector(v128.load(query.get, 4 * g * width));
        const x = f.vector(f32x4.mul(q.get, scale.get));
        f.emit(v128.store(target.get, x.get, places.scaled(g)));
        f.emit(step.set(f32x4.pmax(step.get, f32x4.abs(x.get))));
        f.emit(sum.set(f32x4.add(sum.get, f32x4.mul(q.get, added.get))));
      }
      for (const pointer of [query, target]) f.emit(pointer.set(i32.add(pointer.get, i32.const(16))));
    });
    for (let g = 0; g < queries; g++) {
      round(
        steps[g] as Local,
        bases[g] as Local,
        at(places.scaled(g)),
        at(places.rounded(g)),
        width,
        type === 'int4' ? evenFirst : inOrder,
      );
      combineLanes(f, bases[g] as Local, f32x4.add);
    }
  };

  const prepareValues = (): void => {
    const target = f.address(scratch.get);
    f.walk(task.valueScales.get, 4 * GROUP, 16, (scales) => {
      const both = f.vector(v128.load(scales.get));
      const scale = halves(context, upper(both.get));
      const added = base(scale, halves(context, both.get));
      f.emit(
        v128.store(target.get, scale.get, places.scales),
        v128.store(target.get, added.get, places.bases),
      );
      f.emit(target.set(i32.add(target.get, i32.const(16))));
    });
    for (const x of [...valueSteps, ...shifts]) f.emit(x.set(v128.zero));
  };

  /** Codes of a row from element `d` on, 8 of int8 or 16 of int4, as vectors of 16 bits. */
  const keyCodes = (row: Local, from: number, d: number): Code[] => {
    if (type === 'int8') return [v128.load8x8_s(row.get, from + d)];
    const bytes = f.vector(v128.load64_zero(row.get, from + d / 2));
    return nibbles(bytes).map((x) => i16x8.extend_low_i8x16_u(x));
  };
  const nibbles = (bytes: Local): Code[] =>
    [bytes.get, i16x8.shr_u(bytes.get, i32.const(4))].map((x) => v128.and(x, i32x4.all(0x0f0f0f0f)));

  /** Sixteen elements of two rows, those of the rows side by side, four pairs each. */
  const valueCodes = (row: Local, d: number): Local[] => {
    const interleave = (first: number): number[] =>
      Array.from({ length: 16 }, (_, i) => first + Math.floor(i / 2) + 16 * (i % 2));
    if (type === 'int8') {
      const [a, b] = [0, rowBytes].map((from) => f.vector(v128.load(row.get, from + d))) as [Local, Local];
      return [0, 8].flatMap((first) => {
        const pairs = f.vector(v128.shuffle(a.get, b.get, interleave(first)));
        return [
          f.vector(i16x8.extend_low_i8x16_s(pairs.get)),
          f.vector(i16x8.extend_high_i8x16_s(pairs.get)),
        ];
      });
    }
    const [a, b] = [0, rowBytes].map((from) => v128.load64_zero(row.get, from + d / 2)) as [Code, Code];
    const pairs = f.vector(v128.shuffle(a, b, interleave(0)));
    return nibbles(pairs).flatMap((x) => {
      const part = f.vector(x);
      return [f.vector(i16x8.extend_low_i8x16_u(part.get)), f.vector(i16x8.extend_high_i8x16_u(part.get))];
    });
  };

  return {
    prepare: () => {
      prepareQueries();
      prepareValues();
    },
    add: i32x4.add,
    products: (keys, tile) => {
      const sums = tile.map(() => Array.from({ length: 4 }, () => f.vector(v128.zero)));
      const [elements, vectors] = type === 'int8' ? [8, 1] : [16, 2];
      for (let d = 0; d < width; d += elements) {
        const parts = tile.map((query) =>
          Array.from({ length: vectors }, (_, i) =>
            f.vector(v128.load(scratch.get, places.rounded(query) + 2 * d + 16 * i)),
          ),
        );
        for (let row = 0; row < 4; row++)
          for (const [i, code] of keyCodes(keys, row * rowBytes, d).entries()) {
            const key = f.vector(code);
            for (const [g, own] of parts.entries()) {
              const sum = (sums[g] as Local[])[row] as Local;
              f.emit(sum.set(i32x4.add(sum.get, i32x4.dot_i16x8_s(key.get, (own[i] as Local).get))));
            }
          }
      }
      return sums;
    },
    score: (sums, query) => {
      const scaled = f32x4.mul(f32x4.convert_i32x4_s(sums), (steps[query] as Local).get);
      return f32x4.add(scaled, (bases[query] as Local).get);
    },
    weigh: (exponentials, place, query) => {
      const [step, shift] = [valueSteps[query] as Local, shifts[query] as Local];
      const own = (from: number): Code => v128.load(place.get, from - query * SCORE_BYTES);
      const weights = f.vector(f32x4.mul(exponentials.get, own(places.scales)));
      f.emit(v128.store(place.get, weights.get), step.set(f32x4.pmax(step.get, weights.get)));
      f.emit(shift.set(f32x4.add(shift.get, f32x4.mul(exponentials.get, own(places.bases)))));
    },
    weighed: (query) => {
      const shift = shifts[query] as Local;
      round(valueSteps[query] as Local, shift, at(query * SCORE_BYTES), at(places.weights(query)), GROUP);
      combineLanes(f, shift, f32x4.add);
      const place = resultOffsets(context).shift(query);
      const result = task.result.get;
      f.emit(f32.store(result, f32.add(f32.load(result, place), f32x4.first(shift.get)), place));
    },
    values: (tile) => {
      const { value } = resultOffsets(context);
      for (let d = 0; d < width; d += BLOCK) {
        const sums = tile.map(() => Array.from({ length: BLOCK / 4 }, () => f.vector(v128.zero)));
        const row = f.address(task.valueCodes.get);
        f.walk(scratch.get, 2 * GROUP, 4, (weights) => {
          const own = tile.map((query) => f.vector(v128.load32_splat(weights.get, places.weights(query))));
          for (const [i, codes] of valueCodes(row, d).entries())
            for (const [g, sum] of sums.entries()) {
              const target = sum[i] as Local;
              f.emit(target.set(i32x4.add(target.get, i32x4.dot_i16x8_s(codes.get, (own[g] as Local).get))));
            }
          f.emit(row.set(i32.add(row.get, i32.const(2 * rowBytes))));
        });
        for (const [g, query] of tile.entries())
          for (const [i, sum] of (sums[g] as Local[]).entries()) {
            const place = value(query, d + 4 * i);
            const more = f32x4.mul(f32x4.convert_i32x4_s(sum.get), (valueSteps[query] as Local).get);
            f.emit(v128.store(task.result.get, f32x4.add(v128.load(task.result.get, place), more), place));
          }
      }
    },
  };
}
