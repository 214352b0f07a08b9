/** How tasks with marks and words divide their ids: marks, ten digits, then thirds of names, values and noise. */
import type { Random } from '../../random.js';

/** Ids that structure a sequence. */
export const MARK = { entry: 1, is: 2, ask: 3, copy: 4 } as const;

const FIRST_DIGIT = 8;
const FIRST_WORD = 18;
/** So that each third has a few dozen words. */
export const SMALLEST_VOCABULARY = 128;

/** A range of ids. */
export interface Words {
  readonly first: number;
  readonly count: number;
}

export function wordsOf(vocabSize: number): { names: Words; values: Words; noise: Words } {
  const third = Math.floor((vocabSize - FIRST_WORD) / 3);
  return {
    names: { first: FIRST_WORD, count: third },
    values: { first: FIRST_WORD + third, count: third },
    noise: { first: FIRST_WORD + 2 * third, count: vocabSize - FIRST_WORD - 2 * third },
  };
}

export const drawWord = ({ first, count }: Words, random: Random): number => first + random.below(count);

/** Distinct words in random order. */
export const drawWords = ({ first, count }: Words, wanted: number, random: Random): number[] =>
  drawDistinct(wanted, count, random).map((index) => first + index);

/** Distinct whole numbers from 0 to below `range`, in random order; time does not grow with the range where few are asked for. */
export function drawDistinct(count: number, range: number, random: Random): number[] {
  if (2 * count > range) {
    const all = random.shuffle(Int32Array.from({ length: range }, (_, index) => index));
    return Array.from(all.subarray(0, count));
  }
  const drawn = new Set<number>();
  while (drawn.size < count) drawn.add(random.below(range));
  return [...drawn];
}

export const drawDigits = (count: number, random: Random): number[] =>
  Array.from({ length: count }, () => FIRST_DIGIT + random.below(10));
