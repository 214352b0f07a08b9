import type { Engine } from '../engines/engine.js';
import { defaultChunkSize } from '../model/costs.js';
import type { LanguageModel } from '../model/language-model.js';
import * as tf from '../tf.js';
import { randomTokens } from './prompt.js';
import { timeRuns } from './timing.js';

const SMALLEST = 256;
const LARGEST = 32768;

/**
 * The chunk size with the highest prefill rate on this engine: a climb in powers of two from the configuration's
 * default, over prompts of at most twice the chunk.
 *
 * @param longest the longest context of the sweep: larger chunks are pointless
 */
export async function findChunkSize(
  model: LanguageModel,
  engine: Engine,
  longest: number,
  seed: number,
): Promise<number> {
  const limit = Math.min(LARGEST, 2 ** Math.ceil(Math.log2(Math.max(longest, SMALLEST))));
  const rates = new Map<number, number>();
  const rate = async (chunkSize: number): Promise<number> => {
    if (chunkSize < SMALLEST || chunkSize > limit) return 0;
    const known = rates.get(chunkSize) ?? (await measureRate(model, engine, chunkSize, longest, seed));
    rates.set(chunkSize, known);
    return known;
  };
  let best = Math.min(defaultChunkSize(model.config), limit);
  for (;;) {
    const neighbours = [best / 2, best * 2];
    const better = await firstBetter(neighbours, await rate(best), rate);
    if (better === null) return best;
    best = better;
  }
}

async function firstBetter(
  sizes: readonly number[],
  present: number,
  rate: (chunkSize: number) => Promise<number>,
): Promise<number | null> {
  for (const size of sizes) if ((await rate(size)) > present) return size;
  return null;
}

/** Tokens per second: the best of two runs after one that warms up. */
async function measureRate(
  model: LanguageModel,
  engine: Engine,
  chunkSize: number,
  longest: number,
  seed: number,
): Promise<number> {
  const count = Math.min(longest, 2 * chunkSize);
  const tokens = randomTokens(model.config, count, seed);
  const [, ...seconds] = await timeRuns(engine, 3, () => {
    const cache = model.createCache({ maxTokens: count });
    model.prefill(tokens, cache, { chunkSize }).dispose();
    cache.dispose();
  });
  tf.dispose(tokens);
  return count / Math.min(...seconds);
}
