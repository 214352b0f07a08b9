/** What the needle tasks share: a needle is a name with a value of several digits, in noise. */
import type { Random } from '../../random.js';
import { askFor, hideBlocks, type Asked } from './sequence.js';
import { drawDigits, drawWords, MARK, SMALLEST_VOCABULARY, wordsOf } from './symbols.js';
import type { RecallOptions, RecallTask } from './task.js';

const DIGITS = 4;

interface Needle {
  readonly block: readonly number[];
  readonly asked: Asked;
}

function drawNeedles(count: number, vocabSize: number, random: Random): Needle[] {
  return drawWords(wordsOf(vocabSize).names, count, random).map((name) => {
    const value = drawDigits(DIGITS, random);
    return { block: [MARK.entry, name, MARK.is, ...value], asked: askFor([name], value) };
  });
}

/** Why a vocabulary or a length is too small for blocks and questions of so many tokens. */
export function refuse(
  { length, items, vocabSize }: RecallOptions,
  { needed, most, counts }: { needed: number; most: number; counts: string },
): string | null {
  if (vocabSize < SMALLEST_VOCABULARY)
    return `the vocabulary must have ${SMALLEST_VOCABULARY} tokens or more`;
  if (items > most) return `a vocabulary of ${vocabSize} has room for ${most} ${counts}`;
  return length >= needed ? null : `${items} ${counts} need ${needed} tokens`;
}

/** A task that hides needles and asks for some of them. */
export function needleTask(
  about: Pick<RecallTask, 'name' | 'description'>,
  { asks, mostItems = Infinity }: { asks: (items: number) => number; mostItems?: number },
): RecallTask {
  const counts = 'needles';
  return {
    ...about,
    version: 1,
    counts,
    refusal(options) {
      const { items, vocabSize } = options;
      if (items > mostItems) return 'there is one needle';
      const needed = (3 + DIGITS) * (items + asks(items)) - 1;
      return refuse(options, { needed, counts, most: wordsOf(vocabSize).names.count });
    },
    make(options, random) {
      const needles = drawNeedles(options.items, options.vocabSize, random);
      const asked = needles.slice(0, asks(options.items)).map((needle) => needle.asked);
      const blocks = random.shuffle(needles.map(({ block }) => block));
      return hideBlocks(blocks, asked, options, random);
    },
  };
}
