/**
 * Codes that are floating-point numbers: bfloat16, float16 and float8. They become float32 by shifts and masks of the lanes that
 * hold them; a type with fewer bits of exponent than float32 has another bias, which is a power of two in the result.
 */
import { codeWords, GROUP } from '../../../ops/attention/cache-type.js';
import { type Code, f32x4, i32, i32x4, type Local, multiplyAdd, v128 } from './assembler.js';
import { type Codec, type Context, resultOffsets, SCORE_BYTES } from './kernel.js';

interface Format {
  /** Codes in a lane of 32 bits. */
  readonly perLane: number;
  /** Lanes of float32 from those whose upper bits are a code. */
  readonly widen: (x: Code) => Code;
  /** Bits of a code that are kept, after `widen`'s shift. */
  readonly exponent: number;
}

const masked = (x: Code, mask: number): Code => v128.and(x, i32x4.all(mask | 0));
/** Repeats the sign bit, and clears it but for the first place: the exponent moves to the right of it. */
const moved = (x: Code, by: number, mask: number): Code => masked(i32x4.shr_s(x, i32.const(by)), mask);

/** `exponent`: what the number is too small by, as a power of two. */
const FORMATS = {
  bfloat16: { perLane: 2, widen: (x) => masked(x, 0xffff0000), exponent: 0 },
  float16: { perLane: 2, widen: (x) => moved(x, 3, 0x8fffe000), exponent: 112 },
  float8: { perLane: 4, widen: (x) => moved(x, 4, 0x87f00000), exponent: 120 },
} as const satisfies Record<string, Format>;
export type FloatType = keyof typeof FORMATS;

/** Elements of a value that are summed together, and the positions for which their sums stay in registers. */
const [BLOCK, POSITIONS] = [16, 16];

/** Where element `d` of a head lies among queries and results: 16 bytes of codes become vectors of every `perLane`-th code. */
export function floatOrder(type: FloatType, d: number): number {
  const { perLane } = FORMATS[type];
  const unit = 4 * perLane;
  return d - (d % unit) + (d % perLane) * 4 + Math.floor((d % unit) / perLane);
}

/** The power of two by which queries, scores, weights and weighted values are scaled: half of what is missing each. */
export const floatScale = (type: FloatType): number => 2 ** (FORMATS[type].exponent / 2);

/** The four codes of 16 bytes that are first in their lanes, then the second ones, … as float32. */
function decoded({ f }: Context, { perLane, widen }: Format, at: Local, offset: number): Local[] {
  const raw = f.vector(v128.load(at.get, offset));
  const bits = 32 / perLane;
  return Array.from({ length: perLane }, (_, i) => {
    const shift = 32 - bits * (i + 1);
    return f.vector(widen(shift === 0 ? raw.get : i32x4.shl(raw.get, i32.const(shift))));
  });
}

export function floatCodec(context: Context, type: FloatType): Codec {
  const { f, task, scratch, width } = context;
  const format: Format = FORMATS[type];
  const unit = 4 * format.perLane;
  const rowBytes = 4 * codeWords(type, width).codes;
  const scale = floatScale(type);
  const hasFactor = type === 'float8';
  const factor = (kind: 'key' | 'value'): Code => {
    const all = f32x4.all(scale);
    return hasFactor ? f32x4.mul(all, v128.load32_splat(task[`${kind}Scales`].get)) : all;
  };
  const keyFactor = f.vector();
  const valueFactor = f.vector();
  const times = (x: Code, by: Local): Code => (format.exponent === 0 ? x : f32x4.mul(x, by.get));
  return {
    prepare: () => {
      if (format.exponent !== 0) f.emit(keyFactor.set(factor('key')), valueFactor.set(factor('value')));
    },
    add: f32x4.add,
    products: (keys, queries) => {
      const sums = queries.map(() => Array.from({ length: 4 }, () => f.vector(v128.zero)));
      for (let d = 0; d < width; d += unit) {
        const parts = queries.map((query) =>
          Array.from({ length: format.perLane }, (_, i) =>
            f.vector(v128.load(task.queries.get, 4 * (query * width + d + 4 * i))),
          ),
        );
        for (let row = 0; row < 4; row++)
          for (const [i, key] of decoded(
            context,
            format,
            keys,
            row * rowBytes + (4 * d) / format.perLane,
          ).entries())
            for (const [g, vectors] of parts.entries()) {
              const sum = (sums[g] as Local[])[row] as Local;
              f.emit(sum.set(multiplyAdd(key.get, (vectors[i] as Local).get, sum.get)));
            }
      }
      return sums;
    },
    score: (sums) => times(sums, keyFactor),
    weigh: (exponentials, at) => {
      f.emit(v128.store(at.get, times(exponentials.get, valueFactor)));
    },
    weighed: () => undefined,
    values: (tile) => {
      const { value } = resultOffsets(context);
      const result = task.result.get;
      const values = f.address(task.valueCodes.get);
      f.walk(scratch.get, 4 * GROUP, 4 * POSITIONS, (weights) => {
        for (let d = 0; d < width; d += BLOCK) {
          const sums = tile.map((query) =>
            Array.from({ length: BLOCK / 4 }, (_, i) => f.vector(v128.load(result, value(query, d + 4 * i)))),
          );
          const row = f.address(values.get);
          f.walk(weights.get, 4 * POSITIONS, 4, (weight) => {
            const own = tile.map((query) => f.vector(v128.load32_splat(weight.get, query * SCORE_BYTES)));
            for (let from = d; from < d + BLOCK; from += unit)
              for (const [i, part] of decoded(context, format, row, (4 * from) / format.perLane).entries())
                for (const [g, sum] of sums.entries()) {
                  const target = sum[(from - d) / 4 + i] as Local;
                  f.emit(target.set(multiplyAdd(part.get, (own[g] as Local).get, target.get)));
                }
            f.emit(row.set(i32.add(row.get, i32.const(rowBytes))));
          });
          for (const [g, query] of tile.entries())
            for (const [i, sum] of (sums[g] as Local[]).entries())
              f.emit(v128.store(result, sum.get, value(query, d + 4 * i)));
        }
        f.emit(values.set(i32.add(values.get, i32.const(POSITIONS * rowBytes))));
      });
    },
  };
}
