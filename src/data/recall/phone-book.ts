/**
 * A phone book (Jelassi et al., "Repeat After Me", arXiv 2402.01032, section 4): entries of a name of two words with a number
 * of four digits. Names share their words, so that both count.
 */
import { refuse } from './needles.js';
import { askFor, hideBlocks } from './sequence.js';
import { drawDigits, drawWords, MARK, wordsOf } from './symbols.js';
import type { RecallTask } from './task.js';

const DIGITS = 4;
const ENTRY = 4 + DIGITS;
const MOST_ASKED = 4;
const COUNTS = 'entries';

export const phoneBook: RecallTask = {
  name: 'phone-book',
  version: 1,
  description: 'entries of a name of two words and a number, of which up to four are asked for',
  counts: COUNTS,
  refusal(options) {
    const { items, vocabSize } = options;
    const needed = ENTRY * (items + Math.min(items, MOST_ASKED)) - 1;
    return refuse(options, { needed, counts: COUNTS, most: wordsOf(vocabSize).names.count ** 2 });
  },
  make(options, random) {
    const { items, vocabSize } = options;
    const { names } = wordsOf(vocabSize);
    // As few words as give names enough: then each word is in several names.
    const words = drawWords(names, Math.max(2, Math.ceil(Math.sqrt(items))), random);
    const pairs = random.shuffle(words.flatMap((first) => words.map((last) => [first, last])));
    const entries = pairs.slice(0, items).map((name) => ({ name, number: drawDigits(DIGITS, random) }));
    const asked = entries.slice(0, MOST_ASKED).map(({ name, number }) => askFor(name, number));
    const blocks = random
      .shuffle(entries)
      .map(({ name, number }) => [MARK.entry, ...name, MARK.is, ...number]);
    return hideBlocks(blocks, asked, options, random);
  },
};
