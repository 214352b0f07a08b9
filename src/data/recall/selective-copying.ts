/**
 * Selective copying (Gu and Dao, Mamba, arXiv 2312.00752, section 4.1.1): tokens at random places in noise, then as many marks,
 * at each of which the next of the tokens is predicted. As there, each token counts by itself.
 */
import { refuse } from './needles.js';
import { drawDistinct, drawWord, MARK, wordsOf } from './symbols.js';
import type { RecallTask } from './task.js';

const COUNTS = 'tokens to copy';

export const selectiveCopying: RecallTask = {
  name: 'selective-copying',
  version: 1,
  description: 'tokens in noise, all to be copied in their order',
  counts: COUNTS,
  refusal: (options) => refuse(options, { needed: 2 * options.items, counts: COUNTS, most: Infinity }),
  make({ length, items, vocabSize }, random) {
    const { values, noise } = wordsOf(vocabSize);
    const context = length - items;
    const places = drawDistinct(items, context, random).sort((a, b) => a - b);
    const tokens = Int32Array.from({ length }, (_, index) =>
      index < context ? drawWord(noise, random) : MARK.copy,
    );
    const questions = places.map((place, index) => {
      const token = drawWord(values, random);
      tokens[place] = token;
      return { positions: [context + index], answers: [token] };
    });
    return { tokens, questions };
  },
};
