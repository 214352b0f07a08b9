import { SOLO, type Communicator } from '../distributed/communicator.js';
import type { Engine } from '../engines/engine.js';
import type { LanguageModel } from '../model/language-model.js';
import * as tf from '../tf.js';
import { randomTokens } from './prompt.js';
import { timeRuns } from './timing.js';

export const SMALLEST_CHUNK = 256;
const LARGEST = 32768;
/** Tokens of the prompt that sizes are compared on, unless a chunk is longer. */
const PROMPT = 4096;
/** The search ends after so many sizes in a row that are slower than the best. */
const PATIENCE = 2;
/** Seconds after which no further size is tried. */
const BUDGET = 6;

export interface ChunkSearch {
  /** The longest context of the sweep: larger chunks are pointless. */
  readonly longest: number;
  readonly seed: number;
  /** The ranks over which the model divides sequences; default: none. */
  readonly communicator?: Communicator;
}

/**
 * The chunk size with the highest prefill rate on this engine, among powers of two from the smallest up, until they
 * get slower or the search takes too long.
 */
export async function findChunkSize(
  model: LanguageModel,
  engine: Engine,
  { longest, seed, communicator = SOLO }: ChunkSearch,
): Promise<number> {
  // Ranks that measure together decide by the clock of the first.
  const ofFirst = <T>(value: T): T => communicator.gather(value)[0] as T;
  let best = { size: SMALLEST_CHUNK, rate: 0 };
  let slower = 0;
  const end = performance.now() + BUDGET * 1000;
  for (let size = SMALLEST_CHUNK; size <= LARGEST && size < 2 * longest; size *= 2) {
    if (slower === PATIENCE || ofFirst(performance.now() > end)) break;
    const tokens = Math.min(longest, Math.max(PROMPT, size));
    const rate = ofFirst(await measureRate(model, engine, size, tokens, seed));
    slower = rate > best.rate ? 0 : slower + 1;
    if (rate > best.rate) best = { size, rate };
  }
  return best.size;
}

/** Tokens per second: the best of two runs after one that warms up. */
async function measureRate(
  model: LanguageModel,
  engine: Engine,
  chunkSize: number,
  count: number,
  seed: number,
): Promise<number> {
  const tokens = randomTokens(model.config, count, seed);
  const [, ...seconds] = await timeRuns(engine, 3, () => {
    const cache = model.createCache({ maxTokens: count });
    model.prefill(tokens, cache, { chunkSize }).dispose();
    cache.dispose();
  });
  tf.dispose(tokens);
  return count / Math.min(...seconds);
}
