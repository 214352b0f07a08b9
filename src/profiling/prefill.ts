/** Prefill time against context. */
import type { Engine } from '../engines/engine.js';
import { costs } from '../model/costs.js';
import type { LanguageModel } from '../model/language-model.js';
import type { Row } from '../results/schema.js';
import * as tf from '../tf.js';
import { peakResidentBytes } from './memory.js';
import { randomTokens } from './prompt.js';
import { timeSampledPrefill, type SampledPrefill } from './sampled-prefill.js';
import { secondsCells, timeRuns } from './timing.js';

export interface PrefillCell {
  context: number;
  earlyExit: boolean;
  chunkSize: number;
  seed: number;
  warmUp: number;
  repetitions: number;
  /** Chunks that are timed, the time of the others being interpolated; undefined: the whole prompt is prefilled. */
  samples?: number;
  /** Called with the tokens consumed so far, by all runs together: `prefillTokens` at the end. */
  onProgress?: (tokens: number) => void;
}

/** Tokens of a warm-up run: after two chunks all kernels have run. */
const warmUpTokens = (context: number, chunkSize: number): number => Math.min(context, 2 * chunkSize);

/** Tokens consumed by all runs of a cell. */
export function prefillTokens({ context, chunkSize, warmUp, repetitions }: PrefillCell): number {
  return warmUp * warmUpTokens(context, chunkSize) + repetitions * context;
}

/** Prefills `context` random tokens over and over, or samples of their chunks. */
export async function measurePrefill(model: LanguageModel, engine: Engine, cell: PrefillCell): Promise<Row> {
  const { context, earlyExit, chunkSize, seed, samples, onProgress } = cell;
  const tokens = randomTokens(model.config, context, seed);
  const head = tf.slice(tokens, [0, 0], [1, warmUpTokens(context, chunkSize)]);
  let consumed = 0;
  const prefill = (prompt: tf.Tensor2D): void => {
    const before = consumed;
    const report = (count: number): void => {
      consumed = before + count;
      onProgress?.(consumed);
    };
    const cache = model.createCache({ maxTokens: context });
    model.prefill(prompt, cache, { chunkSize, earlyExit, onProgress: report }).dispose();
    cache.dispose();
  };
  await timeRuns(engine, cell.warmUp, () => {
    prefill(head);
  });
  engine.resetPeak();
  const whole = async (): Promise<SampledPrefill> => ({
    prefilledTokens: context,
    seconds: await timeRuns(engine, cell.repetitions, () => {
      prefill(tokens);
    }),
  });
  const { seconds, prefilledTokens } =
    samples === undefined
      ? await whole()
      : await timeSampledPrefill(model, engine, tokens, { ...cell, samples });
  tf.dispose([tokens, head]);
  const flops = costs(model.config).prefillFlops(context, { earlyExit });
  const cells = secondsCells(seconds);
  const median = Number(cells.seconds_median);
  return {
    prefill_flops: flops,
    chunk_tokens: chunkSize,
    prefilled_tokens: prefilledTokens,
    ...cells,
    tokens_per_second: context / median,
    flops_per_second: flops / median,
    // Forks of a filled cache take more than a prefill does.
    peak_bytes: samples === undefined ? engine.memory().peakBytes : null,
    peak_resident_bytes: peakResidentBytes(),
  };
}
