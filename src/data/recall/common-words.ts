/**
 * RULER's common words (Hsieh et al., arXiv 2404.06654), in symbols: a list of words of which some come several times as often
 * as all others. They are asked for in the order of their first appearance.
 */
import { drawWords, MARK, SMALLEST_VOCABULARY, wordsOf } from './symbols.js';
import { refuse } from './needles.js';
import type { RecallOptions, RecallTask } from './task.js';

const COUNTS = 'common words';
/** How much oftener a common word comes. RULER: 30 times against 3. */
const OFTENER = 6;

/** Tokens of the list: the question is a mark, and the last word of the answer is predicted only. */
const listLength = ({ length, items }: RecallOptions): number => length - items;

export const commonWords: RecallTask = {
  name: 'common-words',
  version: 1,
  description: 'a list of words, of which the common ones are asked for',
  counts: COUNTS,
  refusal(options) {
    const { vocabSize } = options;
    const most = Math.max(0, Math.floor(wordsOf(vocabSize).values.count / OFTENER));
    // Half of the list at least is of other words.
    return refuse(options, { needed: options.items * (2 * OFTENER + 1), counts: COUNTS, most });
  },
  make(options, random) {
    const slots = listLength(options);
    const { names, values, noise } = wordsOf(Math.max(options.vocabSize, SMALLEST_VOCABULARY));
    const common = drawWords(values, options.items, random);
    const all = [names, values, noise].flatMap((words) => drawWords(words, words.count, random));
    const others = random.shuffle(all.filter((word) => !common.includes(word)));
    // The others come equally often, but for a rest; in a long list all words come oftener.
    const times = Math.ceil(slots / (others.length + OFTENER * common.length));
    const often = common.flatMap((word) => Array.from({ length: OFTENER * times }, () => word));
    const rest = Array.from(
      { length: slots - often.length },
      (_, index) => others[index % others.length] as number,
    );
    const list = random.shuffle([...often, ...rest]);
    const answers = [...new Set(list.filter((word) => common.includes(word)))];
    const tokens = Int32Array.from([...list, MARK.ask, ...answers.slice(0, -1)]);
    return { tokens, questions: [{ positions: answers.map((_, index) => slots + index), answers }] };
  },
};
