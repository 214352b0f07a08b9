/** The time of whole requests, prefill and generation together: the throughput of the paper's Figure 10. */
import type { Engine } from '../engines/engine.js';
import type { LanguageModel } from '../model/language-model.js';
import { likeliestAfter } from '../model/continuation.js';
import { fillCache } from '../model/state/fill.js';
import type { ModelCache } from '../model/state/state-cache.js';
import { median } from '../sweep/statistics.js';
import type { ModelKey } from '../sweep/model-key.js';
import * as tf from '../tf.js';
import { chunkOfBatch } from './batch-size.js';
import { fillAndPrefill } from './filled-cache.js';
import { randomTokens } from './prompt.js';
import { timeSampledPrefill } from './sampled-prefill.js';
import { secondsFigures, timeRuns, type SecondsFigures } from './timing.js';

export interface EndToEndKey extends ModelKey {
  /** Tokens of a sequence, prompt and generated ones together. */
  readonly context: number;
  /** Sequences side by side, or the most that fit in memory. */
  readonly batch: number | 'auto';
}

/** Of all sequences together, unless it says otherwise. */
export interface EndToEndFigures extends SecondsFigures {
  /** Of each sequence. */
  readonly promptTokens: number;
  /** Of each sequence. */
  readonly generatedTokens: number;
  /** Sequences side by side. */
  readonly sequences: number;
  /** Tokens of each sequence prefilled at a time. */
  readonly chunkTokens: number;
  /** Whether only samples of the chunks or of the decoding steps were timed. */
  readonly estimated: boolean;
  /** Tokens of each prompt that were computed and timed: fewer than the prompt has where chunks were sampled. */
  readonly prefilledTokens: number;
  /** Decoding steps that were timed: fewer than were needed where steps were sampled. */
  readonly decodedSteps: number;
  /** To the first generated token, which the prefill gives; median. */
  readonly prefillSeconds: number;
  /** For the other generated tokens; median. */
  readonly decodeSeconds: number;
  /** Generated tokens over the median of the whole time. */
  readonly tokensPerSecond: number;
  /** Tokens of the decoding steps over their time; null where a single token was generated. */
  readonly decodeTokensPerSecond: number | null;
  /** Largest sum of all tensors; null where chunks were sampled. */
  readonly peakBytes: number | null;
}

export interface EndToEndWork {
  readonly promptTokens: number;
  readonly generatedTokens: number;
  readonly batch: number;
  readonly seed: number;
  /** Steps decoded before anything is timed, after a prompt of two chunks. */
  readonly warmUp: number;
  readonly repetitions: number;
  /** Chunks of the prefill that are timed, the others being interpolated; undefined: all. */
  readonly sampleChunks?: number;
  /** Decoding steps that are timed, in the middle of the generation; undefined: all. */
  readonly sampleSteps?: number;
  /** Called with the tokens of each prompt consumed so far. */
  readonly onProgress?: (tokens: number) => void;
}

/** Seconds of each repetition. */
interface Times {
  readonly prefill: readonly number[];
  readonly decode: readonly number[];
  readonly prefilledTokens: number;
  readonly decodedSteps: number;
}

/** Prefills `batch` random prompts and generates greedily after them. */
export async function measureEndToEnd(
  model: LanguageModel,
  engine: Engine,
  work: EndToEndWork,
): Promise<EndToEndFigures> {
  const { promptTokens, generatedTokens, batch, sampleChunks } = work;
  const tokens = randomTokens(model.config, promptTokens, work.seed, batch);
  try {
    const request = new Requests(model, engine, tokens, work);
    await request.warmUp();
    engine.resetPeak();
    const times = sampleChunks === undefined ? await request.whole() : await request.sampled(sampleChunks);
    return figuresOf(times, work, {
      chunkTokens: request.chunkSize,
      peakBytes: sampleChunks === undefined ? engine.memory().peakBytes : null,
      estimated: times.prefilledTokens < promptTokens || times.decodedSteps < generatedTokens - 1,
    });
  } finally {
    tokens.dispose();
  }
}

function figuresOf(
  { prefill, decode, prefilledTokens, decodedSteps }: Times,
  { promptTokens, generatedTokens, batch }: EndToEndWork,
  rest: Pick<EndToEndFigures, 'chunkTokens' | 'peakBytes' | 'estimated'>,
): EndToEndFigures {
  const timed = secondsFigures(prefill.map((seconds, run) => seconds + (decode[run] ?? NaN)));
  const [prefillSeconds, decodeSeconds] = [median(prefill), median(decode)];
  const steps = generatedTokens - 1;
  return {
    ...timed,
    ...rest,
    ...{ promptTokens, generatedTokens, prefilledTokens, decodedSteps, prefillSeconds, decodeSeconds },
    sequences: batch,
    tokensPerSecond: (batch * generatedTokens) / timed.secondsMedian,
    decodeTokensPerSecond: steps === 0 ? null : (batch * steps) / decodeSeconds,
  };
}

/** Requests of equal length, answered side by side. */
class Requests {
  readonly chunkSize: number;

  constructor(
    private readonly model: LanguageModel,
    private readonly engine: Engine,
    private readonly tokens: tf.Tensor2D,
    private readonly work: EndToEndWork,
  ) {
    this.chunkSize = chunkOfBatch(model.config, work.batch);
  }

  /** Two chunks and some steps, after which all kernels have run. */
  async warmUp(): Promise<void> {
    const { batch, promptTokens, warmUp } = this.work;
    const head = tf.slice(this.tokens, [0, 0], [batch, Math.min(promptTokens, 2 * this.chunkSize)]);
    await this.withCache(async (cache) => {
      const first = firstTokens(this.model.prefill(head, cache, { chunkSize: this.chunkSize }));
      await this.steps(cache, first, Math.min(warmUp, this.work.generatedTokens));
      await this.engine.synchronize();
    }).finally(() => {
      head.dispose();
    });
  }

  /** Every prompt computed. */
  async whole(): Promise<Times> {
    const { repetitions, promptTokens, onProgress } = this.work;
    const prefill: number[] = [];
    const decode: number[] = [];
    let decodedSteps = 0;
    for (let run = 0; run < repetitions; run++) {
      await this.withCache(async (cache) => {
        let next: Int32Array = new Int32Array();
        const [seconds = NaN] = await timeRuns(this.engine, 1, () => {
          const { chunkSize } = this;
          next = firstTokens(
            this.model.prefill(this.tokens, cache, {
              chunkSize,
              onProgress: (count) => onProgress?.(run * promptTokens + count),
            }),
          );
        });
        const generation = await this.decode(cache, next);
        prefill.push(seconds);
        decode.push(generation.seconds);
        decodedSteps = generation.steps;
      });
    }
    return { prefill, decode, prefilledTokens: promptTokens, decodedSteps };
  }

  /** Some chunks of the prompts timed; the decoding starts after random keys and values. */
  async sampled(samples: number): Promise<Times> {
    const { repetitions, promptTokens, onProgress } = this.work;
    const { model, engine, tokens, chunkSize } = this;
    const sampling = { chunkSize, earlyExit: true, repetitions, samples, onProgress };
    const { seconds, prefilledTokens } = await timeSampledPrefill(model, engine, tokens, sampling);
    const decode: number[] = [];
    let decodedSteps = 0;
    await this.withCache(async (filled) => {
      fillAndPrefill(model, filled, tokens, { length: promptTokens, chunkSize });
      for (let run = 0; run < repetitions; run++) {
        const cache = filled.fork();
        try {
          const generation = await this.decode(cache, new Int32Array(this.work.batch));
          decode.push(generation.seconds);
          decodedSteps = generation.steps;
        } finally {
          cache.dispose();
        }
      }
    });
    return { prefill: seconds, decode, prefilledTokens, decodedSteps };
  }

  /**
   * The time of all steps after the first generated token. Of sampled steps it is their mean times the number of all: they
   * are in the middle, and the time of a step grows linearly with the tokens before it.
   */
  private async decode(cache: ModelCache, first: Int32Array): Promise<{ seconds: number; steps: number }> {
    const { generatedTokens, promptTokens, sampleSteps = Infinity, warmUp } = this.work;
    const all = generatedTokens - 1;
    const steps = Math.min(all, sampleSteps);
    let next = first;
    if (steps < all) {
      const before = Math.floor((all - steps) / 2);
      const unused = Math.min(warmUp, before);
      fillCache(cache, promptTokens + before - unused);
      next = await this.steps(cache, next, unused);
    }
    const [seconds = NaN] = await timeRuns(this.engine, 1, () => this.steps(cache, next, steps));
    return { seconds: steps === 0 ? 0 : (seconds * all) / steps, steps };
  }

  /**
   * Continues each sequence by so many steps. Every step's tokens are read back, as whoever waits for them would.
   * @returns the last ones
   */
  private async steps(cache: ModelCache, tokens: Int32Array, count: number): Promise<Int32Array> {
    let last = tokens;
    if (count === 0) return last;
    const options = { limit: count, lastUse: true };
    for await (const next of likeliestAfter(this.model, cache, tokens, options)) last = next;
    return last;
  }

  private async withCache(work: (cache: ModelCache) => Promise<void>): Promise<void> {
    const { batch, promptTokens, generatedTokens } = this.work;
    const cache = this.model.createCache({ batch, maxTokens: promptTokens + generatedTokens });
    try {
      await work(cache);
    } finally {
      cache.dispose();
    }
  }
}

/** The likeliest token of each sequence; the logits [B, V] are disposed of. */
function firstTokens(logits: tf.Tensor2D): Int32Array {
  const best = tf.argMax(logits, 1);
  const tokens = best.dataSync<'int32'>();
  tf.dispose([logits, best]);
  return Int32Array.from(tokens);
}
