/**
 * RULER's variable tracking (Hsieh et al., arXiv 2404.06654), in symbols: a variable gets a value, a second the first, and so
 * on; all variables with the value are asked for. A second chain of as many variables distracts.
 */
import type { Random } from '../../random.js';
import { refuse } from './needles.js';
import { askFor, hideBlocks } from './sequence.js';
import { drawWords, MARK, wordsOf } from './symbols.js';
import type { RecallTask } from './task.js';

const COUNTS = 'hops';
const CHAINS = 2;

/** Two lists as one, each in its own order. */
function merged<T>(first: readonly T[], second: readonly T[], random: Random): T[] {
  const fromFirst = random.shuffle([...first.map(() => true), ...second.map(() => false)]);
  const [a, b] = [first.values(), second.values()];
  return fromFirst.map((isFirst) => (isFirst ? a : b).next().value as T);
}

export const variableTracking: RecallTask = {
  name: 'variable-tracking',
  version: 1,
  description: 'chains of variables set to one another; all variables of a value are asked for',
  counts: COUNTS,
  refusal(options) {
    const variables = options.items + 1;
    const most = Math.floor(wordsOf(options.vocabSize).names.count / CHAINS) - 1;
    return refuse(options, { needed: 4 * CHAINS * variables + 3 + variables - 1, counts: COUNTS, most });
  },
  make(options, random) {
    const { names, values } = wordsOf(options.vocabSize);
    const variables = options.items + 1;
    const words = drawWords(names, CHAINS * variables, random);
    const chains = drawWords(values, CHAINS, random).map((value, chain) => {
      const own = words.slice(chain * variables, (chain + 1) * variables);
      const blocks = own.map((name, index) => [MARK.entry, name, MARK.is, own[index - 1] ?? value]);
      return { own, blocks, value };
    });
    const [asked, other] = chains as [(typeof chains)[0], (typeof chains)[0]];
    const blocks = merged(asked.blocks, other.blocks, random);
    return hideBlocks(blocks, [askFor([asked.value], asked.own)], options, random);
  },
};
