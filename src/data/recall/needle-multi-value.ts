import { refuse } from './needles.js';
import { askFor, hideBlocks } from './sequence.js';
import { drawWord, drawWords, MARK, wordsOf } from './symbols.js';
import type { RecallTask } from './task.js';

const COUNTS = 'values';

/** RULER's needle with several values (Hsieh et al., arXiv 2404.06654), in symbols: all values of one name, in their order. */
export const needleMultiValue: RecallTask = {
  name: 'needle-multi-value',
  version: 1,
  description: 'several values of one name, all asked for in their order',
  counts: COUNTS,
  refusal(options) {
    const needed = 5 * options.items + 2;
    return refuse(options, { needed, counts: COUNTS, most: wordsOf(options.vocabSize).values.count });
  },
  make(options, random) {
    const { names, values } = wordsOf(options.vocabSize);
    const name = drawWord(names, random);
    const own = drawWords(values, options.items, random);
    const blocks = own.map((value) => [MARK.entry, name, MARK.is, value]);
    return hideBlocks(blocks, [askFor([name], own)], options, random);
  },
};
