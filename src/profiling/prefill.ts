/** Prefill time against context. */
import type { Engine } from '../engines/engine.js';
import { costs } from '../model/costs.js';
import type { LanguageModel } from '../model/language-model.js';
import type { ModelKey } from '../sweep/model-key.js';
import * as tf from '../tf.js';
import { peakResidentBytes } from '../sweep/memory-budget.js';
import type { ProductRate } from '../sweep/product-rate.js';
import { median } from '../sweep/statistics.js';
import { randomTokens } from './prompt.js';
import { timeSampledPrefill, type SampledPrefill } from './sampled-prefill.js';
import { secondsFigures, timeRuns, type SecondsFigures } from './timing.js';

export interface PrefillKey extends ModelKey {
  /** Positions before the last leave as early as the layout allows. */
  readonly earlyExit: boolean;
  /** Tokens in the context. */
  readonly context: number;
}

export interface PrefillFigures extends SecondsFigures {
  /** Operations of the matrix products, by formula. */
  readonly prefillFlops: number;
  /** Tokens prefilled at a time. */
  readonly chunkTokens: number;
  /** Tokens of the context that were computed; the others are random keys and values. */
  readonly prefilledTokens: number;
  /** Context over median. */
  readonly tokensPerSecond: number;
  readonly flopsPerSecond: number;
  /** Of a large product on one device, measured directly after each repetition; median. */
  readonly productFlopsPerSecond: number;
  /** `flopsPerSecond` over that of all devices; the median over the repetitions. */
  readonly productShare: number;
  /** Largest sum of all tensors; null where chunks were sampled. */
  readonly peakBytes: number | null;
  /** Largest resident memory of the process so far. */
  readonly peakResidentBytes: number;
}

export interface PrefillWork {
  context: number;
  earlyExit: boolean;
  chunkSize: number;
  seed: number;
  /** Runs that are not counted, of two chunks at most. */
  warmUp: number;
  repetitions: number;
  /** Chunks that are timed, the time of the others being interpolated; undefined: the whole prompt is prefilled. */
  samples?: number;
  /** The large product that each repetition is compared with. */
  product: Pick<ProductRate, 'measure'>;
  /** Ranks that divide the context; default 1. */
  ranks?: number;
  /** Called with the tokens consumed so far, by all runs together: `prefillTokens` at the end. */
  onProgress?: (tokens: number) => void;
}

/** Tokens of a warm-up run: after two chunks all kernels have run. */
const warmUpTokens = (context: number, chunkSize: number): number => Math.min(context, 2 * chunkSize);

/** Tokens consumed by all runs of a cell. */
export function prefillTokens({
  context,
  chunkSize,
  warmUp,
  repetitions,
}: Pick<PrefillWork, 'context' | 'chunkSize' | 'warmUp' | 'repetitions'>): number {
  return warmUp * warmUpTokens(context, chunkSize) + repetitions * context;
}

/** Prefills `context` random tokens over and over, or samples of their chunks. */
export async function measurePrefill(
  model: LanguageModel,
  engine: Engine,
  work: PrefillWork,
): Promise<PrefillFigures> {
  const { context, earlyExit, chunkSize, seed, samples, onProgress, ranks = 1 } = work;
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
  await timeRuns(engine, work.warmUp, () => {
    prefill(head);
  });
  const products = new ProductsAfter(engine, work);
  const whole = async (): Promise<SampledPrefill> => ({
    prefilledTokens: context,
    seconds: await timeRuns(
      engine,
      work.repetitions,
      () => {
        prefill(tokens);
      },
      products.afterRun,
    ),
  });
  const { seconds, prefilledTokens } =
    samples === undefined
      ? await whole()
      : await timeSampledPrefill(model, engine, tokens, { ...work, samples, afterRun: products.afterRun });
  tf.dispose([tokens, head]);
  const flops = costs(model.config).prefillFlops(context, { earlyExit });
  const timed = secondsFigures(seconds);
  return {
    ...timed,
    prefillFlops: flops,
    chunkTokens: chunkSize,
    prefilledTokens,
    tokensPerSecond: context / timed.secondsMedian,
    flopsPerSecond: flops / timed.secondsMedian,
    ...products.figures(seconds.map((duration) => flops / ranks / duration)),
    // Forks of a filled cache take more than a prefill does.
    peakBytes: samples === undefined ? products.peakBytes : null,
    peakResidentBytes: peakResidentBytes(),
  };
}

/** Large products measured after each repetition, or each of its chunks, while the device is as that has left it. */
class ProductsAfter {
  /** Operations per second, by repetition. */
  private readonly rates: readonly number[][];
  private peak = 0;

  constructor(
    private readonly engine: Engine,
    private readonly work: Pick<PrefillWork, 'product' | 'repetitions'>,
  ) {
    this.rates = Array.from({ length: work.repetitions }, () => []);
    engine.resetPeak();
  }

  readonly afterRun = async (run: number): Promise<void> => {
    this.peak = Math.max(this.peak, this.engine.memory().peakBytes);
    this.rates[run]?.push(await this.work.product.measure());
    this.engine.resetPeak();
  };

  /** Largest sum of all tensors in the repetitions, without those of the products. */
  get peakBytes(): number {
    return this.peak;
  }

  /** @param flopsPerSecond of each repetition, on one device */
  figures(flopsPerSecond: readonly number[]): Pick<PrefillFigures, 'productFlopsPerSecond' | 'productShare'> {
    const rates = this.rates.map(median);
    return {
      productFlopsPerSecond: median(rates),
      productShare: median(rates.map((rate, run) => (flopsPerSecond[run] ?? NaN) / rate)),
    };
  }
}
