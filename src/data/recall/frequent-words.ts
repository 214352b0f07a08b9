/**
 * RULER's frequent words (Hsieh et al., arXiv 2404.06654), in symbols: words in the frequencies of a zeta distribution, of
 * which the most frequent are asked for, the most frequent first.
 */
import { refuse } from './needles.js';
import { drawWords, MARK, wordsOf } from './symbols.js';
import type { RecallTask } from './task.js';

const COUNTS = 'most frequent words';
/** Of the zeta distribution, as in RULER. */
const EXPONENT = 2;

/** How often the words of each rank come; the ranks that are asked for, and the next, differ. */
function frequencies(slots: number, items: number, words: number): number[] {
  const weights = Array.from({ length: words }, (_, rank) => (rank + 1) ** -EXPONENT);
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const counts = weights.map((weight) => Math.floor((slots * weight) / sum));
  for (let rank = items - 1; rank >= 0; rank--)
    counts[rank] = Math.max(counts[rank] as number, (counts[rank + 1] as number) + 1);
  const used = counts.reduce((total, count) => total + count, 0);
  counts[0] = (counts[0] as number) + slots - used;
  return counts;
}

const isRanked = (counts: readonly number[], items: number): boolean =>
  Array.from({ length: items }, (_, rank) => rank).every(
    (rank) => (counts[rank] as number) > (counts[rank + 1] as number),
  );

export const frequentWords: RecallTask = {
  name: 'frequent-words',
  version: 1,
  description: 'words of different frequencies, of which the most frequent are asked for',
  counts: COUNTS,
  refusal(options) {
    const { length, items, vocabSize } = options;
    const { values } = wordsOf(vocabSize);
    const refused = refuse(options, { needed: 2 * items, counts: COUNTS, most: values.count - 1 });
    if (refused !== null) return refused;
    const ranked = isRanked(frequencies(length - items, items, values.count), items);
    return ranked ? null : `${length} tokens are too few for ${items} words of different frequencies`;
  },
  make({ length, items, vocabSize }, random) {
    const { values } = wordsOf(vocabSize);
    const slots = length - items;
    const words = drawWords(values, values.count, random);
    const counts = frequencies(slots, items, values.count);
    const list = counts.flatMap((count, rank) => Array.from({ length: count }, () => words[rank] as number));
    const answers = words.slice(0, items);
    const tokens = Int32Array.from([...random.shuffle(list), MARK.ask, ...answers.slice(0, -1)]);
    return { tokens, questions: [{ positions: answers.map((_, index) => slots + index), answers }] };
  },
};
