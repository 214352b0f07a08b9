import { needleTask } from './needles.js';

/** RULER's single needle (Hsieh et al., arXiv 2404.06654), in symbols. */
export const needleSingle = needleTask(
  { name: 'needle-single', description: 'one needle in noise' },
  { asks: () => 1, mostItems: 1 },
);
