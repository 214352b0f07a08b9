/** Decoding rate against context. */
import { MODEL_COLUMNS } from '../cli/models.js';
import type { Engine } from '../engines/engine.js';
import { ELEMENT_BYTES } from './memory-budget.js';
import { costs } from '../model/costs.js';
import type { ModelCache } from '../model/cache.js';
import type { ModelConfig } from '../model/config.js';
import type { LanguageModel } from '../model/language-model.js';
import type { Row, Schema } from '../results/schema.js';
import * as tf from '../tf.js';
import { CONTEXT_COLUMN } from './memory.js';
import { SECONDS_COLUMNS, secondsCells } from './prefill.js';
import { randomTokens } from './prompt.js';
import type { RatioColumn } from './ratios.js';
import { timeRuns } from './timing.js';

export const THROUGHPUT_SCHEMA: Schema = {
  name: 'profile-throughput',
  columns: [
    ...MODEL_COLUMNS,
    CONTEXT_COLUMN,
    { name: 'decode_flops', kind: 'result', description: 'operations for one token, by formula' },
    {
      name: 'bytes_read',
      kind: 'result',
      description: 'weights, keys, values and states that one token must read, by formula',
      display: 'bytes',
    },
    ...SECONDS_COLUMNS,
    {
      name: 'tokens_per_second',
      kind: 'timing',
      description: 'one over the median',
      digits: 2,
      better: 'higher',
    },
    {
      name: 'bytes_per_second',
      kind: 'timing',
      description: 'bytes_read over the median',
      digits: 0,
      display: 'bytes',
    },
  ],
};

export const THROUGHPUT_RATIOS: readonly RatioColumn[] = [
  {
    name: 'decode_ratio',
    of: 'tokens_per_second',
    over: 'yoco',
    kind: 'timing',
    description: 'decoding rate of YOCO over that of the Transformer',
    digits: 3,
    better: 'higher',
  },
];

/** A prompt that grows from context to context, so that a sweep costs one prefill of its longest. */
export class GrowingContext {
  private readonly cache: ModelCache;
  private readonly tokens: tf.Tensor2D;

  constructor(
    private readonly model: LanguageModel,
    longest: number,
    /** Tokens that are decoded behind a context. */
    decoded: number,
    seed: number,
  ) {
    this.tokens = randomTokens(model.config, longest, seed);
    this.cache = model.createCache({ maxTokens: longest + decoded });
  }

  /** A cache of `context` tokens, at least as many as before; the caller disposes of it. */
  reach(context: number, onProgress?: (tokens: number) => void): ModelCache {
    const missing = context - this.cache.length;
    if (missing < 0) throw new RangeError(`the context has ${this.cache.length} tokens already`);
    if (missing > 0) {
      const part = tf.slice(this.tokens, [0, this.cache.length], [1, missing]);
      this.model.prefill(part, this.cache, { onProgress }).dispose();
      part.dispose();
    }
    return this.cache.fork();
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
}

/**
 * Decodes greedily behind the prompt in `cache`, whose length is the context. The next token is read back each time,
 * as a person would wait for it.
 */
export async function measureDecoding(
  model: LanguageModel,
  engine: Engine,
  cache: ModelCache,
  { warmUp, tokens }: ThroughputCell,
): Promise<Row> {
  const context = cache.length;
  let next = 0;
  const seconds = await timeRuns(engine, warmUp + tokens, () => {
    next = decodeGreedily(model, cache, next);
  });
  const bytes = decodeReadBytes(model.config, context, ELEMENT_BYTES[engine.storage]);
  const cells = secondsCells(seconds.slice(warmUp));
  const median = Number(cells.seconds_median);
  return {
    decode_flops: costs(model.config).decodeFlops(context),
    bytes_read: bytes,
    ...cells,
    tokens_per_second: 1 / median,
    bytes_per_second: bytes / median,
  };
}

/** Bytes one decoded token must read: all weights but the embedding table (one row of it), K/V and states. */
function decodeReadBytes(config: ModelConfig, context: number, elementBytes: number): number {
  const formulas = costs(config);
  const tied = config.architecture === 'transformer' && config.tieEmbeddings;
  const table = tied ? 0 : config.vocabSize * config.dim * elementBytes;
  return (
    formulas.weightBytes(elementBytes) -
    table +
    context * formulas.keyValueBytesPerToken(elementBytes) +
    formulas.stateBytes(elementBytes)
  );
}

function decodeGreedily(model: LanguageModel, cache: ModelCache, token: number): number {
  return tf.tidy(() => {
    const logits = model.decode(tf.tensor1d([token], 'int32'), cache);
    return tf.argMax(logits, 1).dataSync()[0] ?? 0;
  });
}
