/** Decoding rate against context. */
import type { Engine } from '../engines/engine.js';
import { besideWeights, ELEMENT_BYTES } from '../sweep/memory-budget.js';
import { likeliestAfter } from '../model/continuation.js';
import { costs, defaultChunkSize } from '../model/costs.js';
import type { ModelCache } from '../model/state/state-cache.js';
import type { ModelConfig } from '../model/config.js';
import type { LanguageModel } from '../model/language-model.js';
import type { ModelKey } from '../sweep/model-key.js';
import * as tf from '../tf.js';
import { fillAndPrefill } from './filled-cache.js';
import { randomTokens } from './prompt.js';
import { secondsFigures, timeEach, type SecondsFigures } from './timing.js';

export interface ThroughputKey extends ModelKey {
  /** Tokens in the context. */
  readonly context: number;
}

export interface DecodingFigures extends SecondsFigures {
  /** Operations for one token, by formula. */
  readonly decodeFlops: number;
  /** Weights, keys, values and states that one token needs of each device, by formula. */
  readonly bytesRead: number;
  /** The same with keys and values counted in every layer that attends to them. */
  readonly bytesStreamed: number;
  /** One over the median. */
  readonly tokensPerSecond: number;
  /** `bytesStreamed` over the median. */
  readonly bytesPerSecond: number;
  /** Read and written by a large copy on this engine, in the same run. */
  readonly copyBytesPerSecond: number;
  /** `bytesPerSecond` over that. */
  readonly copyShare: number;
}

export interface ThroughputFigures extends DecodingFigures {
  /** Tokens of the context that were computed; the others are random keys and values. */
  readonly prefilledTokens: number;
}

export interface ContextOptions {
  /** Tokens of the longest context. */
  longest: number;
  /** Tokens decoded after a context. */
  decoded: number;
  seed: number;
  /** Compute only the last chunk of each context, after random keys and values. */
  fill: boolean;
  /** Ranks that divide the context; default 1. */
  ranks?: number;
}

/** Bytes that a context takes beside the weights, on each of the ranks that divide it. */
export function bytesOfContext(
  config: ModelConfig,
  context: number,
  bytesPerElement: number,
  ranks = 1,
): number {
  const chunk = defaultChunkSize(config) * ranks;
  return besideWeights(costs(config).inferenceMemory({ context, chunk, bytesPerElement, ranks }));
}

/** A prompt that grows from context to context, so that a sweep costs one prefill of its longest. */
export class GrowingContext {
  private readonly cache: ModelCache;
  private readonly tokens: tf.Tensor2D;
  private computed = 0;

  constructor(
    private readonly model: LanguageModel,
    private readonly options: ContextOptions,
  ) {
    this.tokens = randomTokens(model.config, options.longest, options.seed);
    this.cache = model.createCache({ maxTokens: options.longest + options.decoded });
  }

  /** Tokens of the prompt that were computed; the others are random keys and values. */
  get prefilledTokens(): number {
    return this.computed;
  }

  /** Bytes that `reach` takes beyond what is in memory already, the cache's keys and values included. */
  bytesToReach(context: number, bytesPerElement: number): number {
    const { ranks = 1 } = this.options;
    const perToken = costs(this.model.config).keyValueBytesPerToken(bytesPerElement) / ranks;
    return bytesOfContext(this.model.config, context, bytesPerElement, ranks) - this.cache.length * perToken;
  }

  /** A cache of `context` tokens, at least as many as before; the caller disposes of it. After a failure it is of no use. */
  reach(context: number, onProgress?: (tokens: number) => void): ModelCache {
    const missing = context - this.cache.length;
    if (missing < 0) throw new RangeError(`the context has ${this.cache.length} tokens already`);
    if (missing > 0) this.extend(context, missing, onProgress);
    return this.cache.fork();
  }

  private extend(context: number, missing: number, onProgress?: (tokens: number) => void): void {
    const { model, cache, tokens, options } = this;
    if (options.fill) {
      this.computed += fillAndPrefill(model, cache, tokens, {
        length: context,
        chunkSize: model.chunkTokens,
      });
    } else {
      const part = tf.slice(tokens, [0, cache.length], [1, missing]);
      try {
        model.prefill(part, cache, { onProgress }).dispose();
      } finally {
        part.dispose();
      }
      this.computed += missing;
    }
  }

  dispose(): void {
    this.cache.dispose();
    this.tokens.dispose();
  }
}

export interface DecodingWork {
  warmUp: number;
  /** Tokens decoded and timed one by one. */
  tokens: number;
  /** Bytes that a large copy reads and writes per second. */
  copyRate: number;
  /** Ranks that divide the context; default 1. */
  ranks?: number;
}

/**
 * Decodes greedily after the prompt in `cache`, whose length is the context. Every token is read back, as a person would wait
 * for it: a time is that from one such token to the next.
 */
export async function measureDecoding(
  model: LanguageModel,
  engine: Engine,
  cache: ModelCache,
  { warmUp, tokens, copyRate, ranks = 1 }: DecodingWork,
): Promise<DecodingFigures> {
  const context = cache.length;
  const options = { limit: warmUp + tokens, lastUse: true };
  const seconds = await timeEach(engine, () => likeliestAfter(model, cache, new Int32Array(1), options));
  const bytes = decodeBytes(model.config, context / ranks, ELEMENT_BYTES[engine.storage]);
  const timed = secondsFigures(seconds.slice(warmUp));
  const bytesPerSecond = bytes.streamed / timed.secondsMedian;
  return {
    ...timed,
    decodeFlops: costs(model.config).decodeFlops(context),
    bytesRead: bytes.read,
    bytesStreamed: bytes.streamed,
    tokensPerSecond: 1 / timed.secondsMedian,
    bytesPerSecond,
    copyBytesPerSecond: copyRate,
    copyShare: bytesPerSecond / copyRate,
  };
}

/**
 * Bytes one decoded token needs: all weights but the embedding table (one row of it), K/V and states; and with K/V
 * once for every layer that attends to it, since caches on the chip do not hold a long one between layers.
 */
export function decodeBytes(
  config: ModelConfig,
  context: number,
  elementBytes: number,
): { read: number; streamed: number } {
  const formulas = costs(config);
  const table = config.tieEmbeddings ? 0 : config.vocabSize * config.dim * elementBytes;
  const rest = formulas.weightBytes(elementBytes) - table + formulas.stateBytes(elementBytes);
  return {
    read: rest + context * formulas.keyValueBytesPerToken(elementBytes),
    streamed: rest + context * formulas.keyValueReadBytesPerToken(elementBytes),
  };
}
