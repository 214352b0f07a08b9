import { needleTask } from './needles.js';

/** RULER asks for four. */
const QUERIES = 4;

/** RULER's needles with several queries (Hsieh et al., arXiv 2404.06654), in symbols. */
export const needleMultiQuery = needleTask(
  { name: 'needle-multi-query', description: 'several needles in noise, of which up to four are asked for' },
  { asks: (items) => Math.min(items, QUERIES) },
);
