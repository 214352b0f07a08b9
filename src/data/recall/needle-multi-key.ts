import { needleTask } from './needles.js';

/** RULER's needle with several keys (Hsieh et al., arXiv 2404.06654), in symbols: the needles not asked for distract. */
export const needleMultiKey = needleTask(
  { name: 'needle-multi-key', description: 'several needles in noise, of which one is asked for' },
  { asks: () => 1 },
);
