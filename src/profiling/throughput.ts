/** Decoding rate against context. */
import type { Engine } from '../engines/engine.js';
import { besideWeights, ELEMENT_BYTES } from '../sweep/memory-budget.js';
import { costs, defaultChunkSize } from '../model/costs.js';
import type { ModelCache } from '../model/cache.js';
import type { ModelConfig } from '../model/config.js';
import type { LanguageModel } from '../model/language-model.js';
import type { Row } from '../results/schema.js';
import * as tf from '../tf.js';
import { fillAndPrefill } from './filled-cache.js';
import { randomTokens } from './prompt.js';
import { secondsCells, timeRuns } from './timing.js';

export interface ContextOptions {
  /** Tokens of the longest context. */
  longest: number;
  /** Tokens that are decoded behind a context. */
  decoded: number;
  seed: number;
  /** Compute only the last chunk of each context, behind random keys and values. */
  fill: boolean;
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
    const { longest, decoded, seed } = options;
    this.tokens = randomTokens(model.config, longest, seed);
    this.cache = model.createCache({ maxTokens: longest + decoded });
  }

  /** Tokens of the prompt that were computed; the others are random keys and values. */
  get prefilledTokens(): number {
    return this.computed;
  }

  /** Bytes that `reach` takes beyond what is in memory already, the cache's keys and values included. */
  bytesToReach(context: number, bytesPerElement: number): number {
    const formulas = costs(this.model.config);
    const chunk = defaultChunkSize(this.model.config);
    const need = besideWeights(formulas.inferenceMemory({ context, chunk, bytesPerElement }));
    return need - this.cache.length * formulas.keyValueBytesPerToken(bytesPerElement);
  }

  /** A cache of `context` tokens, at least as many as before; the caller disposes of it. */
  reach(context: number, onProgress?: (tokens: number) => void): ModelCache {
    const { model, cache, tokens, options } = this;
    const missing = context - cache.length;
    if (missing < 0) throw new RangeError(`the context has ${cache.length} tokens already`);
    if (missing > 0 && options.fill) {
      const chunkSize = defaultChunkSize(model.config);
      this.computed += fillAndPrefill(model, cache, tokens, { length: context, chunkSize });
    } else if (missing > 0) {
      const part = tf.slice(tokens, [0, cache.length], [1, missing]);
      tf.dispose([model.prefill(part, cache, { onProgress }), part]);
      this.computed += missing;
    }
    return cache.fork();
  }

  dispose(): void {
    this.cache.dispose();
    this.tokens.dispose();
  }
}

export interface ThroughputCell {
  warmUp: number;
  /** Tokens decoded and timed one by one. */
  tokens: number;
  /** Bytes that a large copy reads and writes per second. */
  copyRate: number;
}

/**
 * Decodes greedily behind the prompt in `cache`, whose length is the context. The next token is read back each time,
 * as a person would wait for it.
 */
export async function measureDecoding(
  model: LanguageModel,
  engine: Engine,
  cache: ModelCache,
  { warmUp, tokens, copyRate }: ThroughputCell,
): Promise<Row> {
  const context = cache.length;
  let next = 0;
  const seconds = await timeRuns(engine, warmUp + tokens, () => {
    next = decodeGreedily(model, cache, next);
  });
  const bytes = decodeBytes(model.config, context, ELEMENT_BYTES[engine.storage]);
  const cells = secondsCells(seconds.slice(warmUp));
  const median = Number(cells.seconds_median);
  return {
    decode_flops: costs(model.config).decodeFlops(context),
    bytes_read: bytes.read,
    bytes_streamed: bytes.streamed,
    ...cells,
    tokens_per_second: 1 / median,
    bytes_per_second: bytes.streamed / median,
    copy_bytes_per_second: copyRate,
    copy_share: bytes.streamed / median / copyRate,
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
  const tied = config.architecture === 'transformer' && config.tieEmbeddings;
  const table = tied ? 0 : config.vocabSize * config.dim * elementBytes;
  const rest = formulas.weightBytes(elementBytes) - table + formulas.stateBytes(elementBytes);
  const keyValue = context * formulas.keyValueBytesPerToken(elementBytes);
  // The Transformer's formula counts all its layers already; YOCO's one cache is read by the cross-decoder's layers.
  const readers = config.architecture === 'yoco' ? config.layers - config.selfLayers : 1;
  return { read: rest + keyValue, streamed: rest + readers * keyValue };
}

function decodeGreedily(model: LanguageModel, cache: ModelCache, token: number): number {
  return tf.tidy(() => {
    const logits = model.decode(tf.tensor1d([token], 'int32'), cache);
    return tf.argMax(logits, 1).dataSync()[0] ?? 0;
  });
}
