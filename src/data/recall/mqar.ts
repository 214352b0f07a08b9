/**
 * Multi-query associative recall of Zoology (Arora et al., arXiv 2312.04927, section 4.1 and its public generator): pairs of
 * a key and a value, then every key once more in noise; the value is predicted there. The distance of a key from the pairs
 * follows a power law, as the distance of repeated bigrams in text does.
 */
import type { Random } from '../../random.js';
import { drawWords } from './symbols.js';
import type { RecallTask } from './task.js';

/** Density g^(a - 1) of the distances g: the generator's default. */
const POWER = 0.01;

/** Distinct numbers from 0 to below `space`, of which small ones are likelier. */
function drawPlaces(count: number, space: number, random: Random): number[] {
  // Without replacement, by exponential races: the first arrivals are a weighted sample (Efraimidis and Spirakis, 2006).
  const arrivals = Array.from({ length: space }, (_, place) => {
    const rate = (place + 1) ** (POWER - 1);
    return { place, time: -Math.log(1 - random.uniform()) / rate };
  });
  return arrivals
    .sort((a, b) => a.time - b.time)
    .slice(0, count)
    .map(({ place }) => place);
}

export const mqar: RecallTask = {
  name: 'mqar',
  version: 1,
  description: 'multi-query associative recall: pairs of key and value, then every key again',
  counts: 'pairs',
  refusal({ length, items, vocabSize }) {
    if (length % 2 !== 0) return 'the length must be even';
    if (length < 4 * items) return `${items} pairs need ${4 * items} tokens`;
    const keys = Math.floor(vocabSize / 2) - 1;
    return items <= keys ? null : `a vocabulary of ${vocabSize} has ${keys} keys`;
  },
  make({ length, items, vocabSize }, random) {
    const half = Math.floor(vocabSize / 2);
    const keys = drawWords({ first: 1, count: half - 1 }, items, random);
    const values = drawWords({ first: half, count: vocabSize - half }, items, random);
    const tokens = Int32Array.from({ length }, () => random.below(vocabSize));
    keys.forEach((key, index) => {
      tokens[2 * index] = key;
      tokens[2 * index + 1] = values[index] as number;
    });
    const places = drawPlaces(items, (length - 2 * items) / 2, random);
    const questions = places.map((place, index) => {
      const position = 2 * items + 2 * place;
      tokens[position] = keys[index] as number;
      return { positions: [position], answers: [values[index] as number] };
    });
    return { tokens, questions };
  },
};
