/** Prefills that would take too long: some chunks are timed, each after a filled cache, the others interpolated. */
import type { Engine } from '../engines/engine.js';
import type { LanguageModel } from '../model/language-model.js';
import type { ModelCache } from '../model/state/state-cache.js';
import * as tf from '../tf.js';
import { fillCache } from '../model/state/fill.js';
import type { PrefillWork } from './prefill.js';
import { timeRuns } from './timing.js';

/**
 * Which of `count` chunks are timed: the last, which also gives logits, so that its time is no part of a trend; and of the others the
 * first, the last, and evenly between, at most `samples`.
 */
export function sampledChunks(count: number, samples: number): number[] {
  const [last, steps] = [count - 1, Math.max(1, samples - 1)];
  if (last === 0) return [0];
  const indices = Array.from({ length: samples }, (_, i) => Math.round((i * (last - 1)) / steps));
  return [...new Set([...indices, last])];
}

/**
 * The sum over all chunks: the last as it was timed, the others linear between samples, which is exact where a chunk's time grows
 * linearly with what is before it, as attention over all of it does.
 * @param samples of the chunks that `sampledChunks` names, in that order
 */
export function sumOfChunks(samples: readonly (readonly [index: number, seconds: number])[]): number {
  const trend = samples.slice(0, -1);
  const [, last] = samples.at(-1) ?? [0, 0];
  const [[, first] = [0, 0]] = trend;
  return trend.slice(1).reduce((sum, [index, seconds], i) => {
    const [before, secondsBefore] = trend[i] ?? [0, 0];
    const count = index - before;
    // Chunks before+1 to index: the trapezoid without its left end and with all of its right one.
    return sum + (count * (secondsBefore + seconds)) / 2 + (seconds - secondsBefore) / 2;
  }, first + last);
}

export interface SampledPrefill {
  /** The whole prefill by each repetition of the samples. */
  readonly seconds: number[];
  /** Tokens computed for one of them. */
  readonly prefilledTokens: number;
}

/** Which chunks are timed, and how often. */
export interface SamplingWork extends Pick<
  PrefillWork,
  'chunkSize' | 'earlyExit' | 'repetitions' | 'onProgress'
> {
  readonly samples: number;
  /** What follows each timed chunk of a repetition, from 0, and is not timed. */
  readonly afterRun?: (run: number) => Promise<void>;
}

/**
 * Times sampled chunks of the prompts; the warm-up is the caller's.
 * @param tokens the whole prompts, int32 [B, context]
 */
export async function timeSampledPrefill(
  model: LanguageModel,
  engine: Engine,
  tokens: tf.Tensor2D,
  { chunkSize, earlyExit, repetitions, samples, onProgress, afterRun }: SamplingWork,
): Promise<SampledPrefill> {
  const [batch, context] = tokens.shape;
  const last = Math.ceil(context / chunkSize) - 1;
  const cache = model.createCache({ batch, maxTokens: context });
  const timed: [index: number, seconds: number[]][] = [];
  let prefilledTokens = 0;
  for (const index of sampledChunks(last + 1, samples)) {
    const start = index * chunkSize;
    const count = Math.min(chunkSize, context - start);
    const chunk = tf.slice(tokens, [0, start], [batch, count]);
    const extend = (target: ModelCache): void => {
      const logits = index === last ? 'last' : 'none';
      tf.dispose(model.extend(chunk, target, { logits, earlyExit }) ?? []);
    };
    fillCache(cache, start);
    const run = (): void => {
      const fork = cache.fork();
      extend(fork);
      fork.dispose();
    };
    const seconds = await timeRuns(engine, repetitions, run, afterRun);
    // Later chunks find states and windows as they are after a computed one.
    if (index === 0 && last > 0) extend(cache);
    chunk.dispose();
    timed.push([index, seconds]);
    prefilledTokens += count;
    onProgress?.(repetitions * (start + count));
  }
  cache.dispose();
  const whole = (run: number): number => sumOfChunks(timed.map(([index, all]) => [index, all[run] ?? NaN]));
  return { seconds: Array.from({ length: repetitions }, (_, run) => whole(run)), prefilledTokens };
}
