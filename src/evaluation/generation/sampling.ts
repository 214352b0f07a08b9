/** From logits to the next token. */
import type { Communicator } from '../../distributed/communicator.js';
import type { Random } from '../../random.js';
import { UsageError } from '../../errors.js';
import * as tf from '../../tf.js';

/** Chooses a token from logits [1, V], which stay the caller's. */
export type Sampler = (logits: tf.Tensor2D) => Promise<number>;

/** The likeliest token. */
export const greedySampler: Sampler = async (logits) => {
  const best = tf.argMax(logits, 1);
  const [token = 0] = await best.data();
  best.dispose();
  return token;
};

export interface SamplingOptions {
  /** Divides the logits; above 0. */
  readonly temperature: number;
  /** Only the k likeliest tokens; null for all. */
  readonly topK: number | null;
  /** Only the fewest likeliest tokens that have this probability together (Holtzman et al. 2020); null for all. */
  readonly topP: number | null;
  readonly random: Random;
}

/** Draws tokens in proportion to their probability. @throws UsageError for values that cannot be meant */
export function randomSampler(options: SamplingOptions): Sampler {
  const choose = randomChoice(options);
  return async (logits) => choose(await logits.data<'float32'>());
}

/** The first rank's choice on all ranks, which have the same logits but for their rounding on GPUs of several kinds. */
export function sharedSampler(sampler: Sampler, ranks: Communicator): Sampler {
  if (ranks.size === 1) return sampler;
  return async (logits) => ranks.gather(await sampler(logits))[0] as number;
}

/** Chooses a token from finite logits [V] that have been read. */
export type TokenChoice = (logits: Float32Array) => number;

/** The likeliest token. */
export const greedyChoice: TokenChoice = (logits) => {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if ((logits[id] as number) > (logits[best] as number)) best = id;
  return best;
};

/** As `randomSampler`. @throws UsageError for values that cannot be meant */
export function randomChoice(options: SamplingOptions): TokenChoice {
  checkSampling(options);
  return (logits) => drawToken(logits, options);
}

/** @throws UsageError for values that cannot be meant */
export function checkSampling({ temperature, topK, topP }: Omit<SamplingOptions, 'random'>): void {
  if (!(temperature > 0 && Number.isFinite(temperature))) {
    throw new UsageError(`temperature ${temperature} must be above 0 (0 on the command line means greedy)`);
  }
  if (topK !== null && !(Number.isInteger(topK) && topK >= 1)) {
    throw new UsageError(`top-k ${topK} must be a whole number from 1`);
  }
  if (topP !== null && !(topP > 0 && topP <= 1)) {
    throw new UsageError(`top-p ${topP} must be above 0 and at most 1`);
  }
}

/** One token of logits [V]. Ties keep the order of the vocabulary. */
export function drawToken(
  logits: Float32Array,
  { temperature, topK, topP, random }: SamplingOptions,
): number {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = Float64Array.from(logits, (value) => Math.exp((value - largest) / temperature));
  const order = Array.from(weights.keys());
  if (topK !== null || topP !== null)
    order.sort((a, b) => (weights[b] as number) - (weights[a] as number) || a - b);
  const kept = nucleus(weights, topK === null ? order : order.slice(0, topK), topP);
  const total = kept.reduce((sum, token) => sum + (weights[token] as number), 0);
  let left = random.uniform() * total;
  for (const token of kept) {
    left -= weights[token] as number;
    if (left < 0) return token;
  }
  return kept.at(-1) as number;
}

/** The fewest leading tokens of `order` with the share `topP` of its weight. */
function nucleus(weights: Float64Array, order: readonly number[], topP: number | null): readonly number[] {
  if (topP === null) return order;
  const total = order.reduce((sum, token) => sum + (weights[token] as number), 0);
  let sum = 0;
  const end = order.findIndex((token) => (sum += weights[token] as number) >= topP * total);
  return end < 0 ? order : order.slice(0, end + 1);
}
