/**
 * A language model whose mathematics one can see through: the logits after a token depend on it and on the one before,
 * by a fixed random table. It counts what it is asked to compute.
 */
import { Random } from '../../src/random.js';
import type { Tokenizer } from '../../src/data/tokenizer.js';
import type { Candidate } from '../../src/evaluation/candidates.js';
import type { Engine } from '../../src/engines/engine.js';
import type { ModelCache } from '../../src/model/state/state-cache.js';
import { createConfig } from '../../src/model/config.js';
import { defaultChunkSize } from '../../src/model/costs.js';
import type {
  CacheOptions,
  LanguageModel,
  LogitsWanted,
  PackedSequence,
  Stretches,
} from '../../src/model/language-model.js';
import { crossEntropy } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';

class StubCache implements ModelCache {
  disposed = false;

  constructor(
    private readonly model: StubModel,
    /** The tokens of each sequence. */
    readonly rows: readonly number[][],
  ) {
    model.openCaches += 1;
  }

  get batch(): number {
    return this.rows.length;
  }

  get length(): number {
    return this.rows[0]?.length ?? 0;
  }

  fork(): StubCache {
    this.model.forks += 1;
    return new StubCache(
      this.model,
      this.rows.map((tokens) => [...tokens]),
    );
  }

  mark(): void {
    // It can return to any length.
  }

  canRewind(length: number): boolean {
    return length <= this.length;
  }

  rewind(length: number): void {
    for (const tokens of this.rows) tokens.length = length;
  }

  bytes(): { keyValue: number; state: number } {
    return { keyValue: 4 * this.length, state: 0 };
  }

  dispose(): void {
    if (this.disposed) throw new Error('disposed twice');
    this.disposed = true;
    this.model.openCaches -= 1;
  }
}

export class StubModel implements LanguageModel {
  readonly config;
  readonly parameters = new Map<string, tf.Variable>();
  /** Tokens consumed by caches; tokens of them whose logits were computed; tokens passed to `loss`. */
  consumed = 0;
  logitsComputed = 0;
  lossTokens = 0;
  forks = 0;
  openCaches = 0;
  /** Sequences of every packed pass. */
  readonly packed: number[] = [];

  /** @param next overrides the table: the token that shall follow `token` after `before` with certainty, if any */
  constructor(
    readonly vocabSize: number,
    private readonly next?: (context: readonly number[]) => number | null,
  ) {
    this.config = createConfig({ dim: 8, layers: 2, hiddenDim: 8, heads: 2, vocabSize });
  }

  stretches(length: number): Stretches {
    const all = [{ from: 0, count: length }];
    return { tokens: all, targets: all };
  }

  get chunkTokens(): number {
    return defaultChunkSize(this.config);
  }

  /** Logits after `context`. */
  row(context: readonly number[]): number[] {
    const certain = this.next?.(context) ?? null;
    const random = new Random(`row ${context.at(-1)} ${context.at(-2)}`);
    return Array.from({ length: this.vocabSize }, (_, id) => (id === certain ? 50 : 3 * random.uniform()));
  }

  /** log p(token | context), computed plainly. */
  logProbability(context: readonly number[], token: number): number {
    const row = this.row(context);
    return (row[token] ?? NaN) - Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0));
  }

  forward(tokens: tf.Tensor2D): tf.Tensor3D {
    const [batch, length] = tokens.shape;
    const ids = [...tokens.dataSync()];
    const rows = ids.map((_, at) => this.row(ids.slice(at - (at % length), at + 1)));
    return tf.tensor3d(rows.flat(), [batch, length, this.vocabSize]);
  }

  loss(tokens: tf.Tensor2D, targets: tf.Tensor2D): tf.Tensor2D {
    this.lossTokens += tokens.size;
    const logits = this.forward(tokens).reshape<tf.Tensor2D>([-1, this.vocabSize]);
    return crossEntropy(logits, targets.reshape<tf.Tensor1D>([-1])).reshape<tf.Tensor2D>(tokens.shape);
  }

  objective(): never {
    throw new Error('a stub is not trained');
  }

  createCache({ batch = 1 }: CacheOptions = {}): ModelCache {
    return new StubCache(
      this,
      Array.from({ length: batch }, () => []),
    );
  }

  extend(tokens: tf.Tensor2D, cache: ModelCache, options: { logits: 'none' }): null;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: { logits: 'last' }): tf.Tensor2D;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: { logits: 'all' }): tf.Tensor3D;
  extend(
    tokens: tf.Tensor2D,
    cache: ModelCache,
    { logits }: { logits: LogitsWanted },
  ): tf.Tensor2D | tf.Tensor3D | null {
    const rows = this.consume(cache, [...tokens.dataSync()]);
    if (logits === 'none') return null;
    const [batch, length] = tokens.shape;
    const last = rows.filter((_, at) => at % length === length - 1);
    this.logitsComputed += logits === 'all' ? rows.length : batch;
    return logits === 'all'
      ? tf.tensor3d(rows.flat(), [batch, length, this.vocabSize])
      : tf.tensor2d(last.flat(), [batch, this.vocabSize]);
  }

  /** The rows of logits after each of some tokens. */
  private consume(cache: ModelCache, ids: readonly number[]): number[][] {
    if (!(cache instanceof StubCache)) throw new Error("another model's cache");
    if (cache.disposed) throw new Error('the cache has been disposed');
    this.consumed += ids.length;
    const length = ids.length / cache.batch;
    return ids.map((id, at) => {
      const tokens = cache.rows[Math.floor(at / length)] ?? [];
      tokens.push(id);
      return this.row(tokens);
    });
  }

  extendPacked(sequences: readonly PackedSequence[]): tf.Tensor2D | null {
    this.packed.push(sequences.length);
    const rows = sequences.flatMap(({ tokens, cache, logits }) =>
      this.consume(cache, [...tokens]).slice(tokens.length - logits),
    );
    this.logitsComputed += rows.length;
    return rows.length === 0 ? null : tf.tensor2d(rows.flat(), [rows.length, this.vocabSize]);
  }

  prefill(tokens: tf.Tensor2D, cache: ModelCache): tf.Tensor2D {
    return this.extend(tokens, cache, { logits: 'last' });
  }

  decode(tokens: tf.Tensor1D, cache: ModelCache): tf.Tensor2D {
    const ids = tokens.reshape<tf.Tensor2D>([1, 1]);
    const logits = this.extend(ids, cache, { logits: 'last' });
    ids.dispose();
    return logits;
  }

  withTheta(): this {
    return this;
  }

  load(): void {
    throw new Error('a stub has no parameters');
  }

  dispose(): void {
    // Holds nothing.
  }
}

/** A stub as an evaluation takes it. */
export function stubCandidate(name: string, model: StubModel, tokenizer: Tokenizer): Candidate {
  return {
    choice: { name, config: model.config },
    tokenizer,
    key: { model: name, architecture: 'yoco', selfDecoder: 'gated-retention' },
    settings: name,
    weightsHash: null,
    trainedContext: null,
    open: () => Promise.resolve(model),
  };
}

/** An engine that says it computes on the plain backend. */
export const stubEngine: Engine = {
  name: 'cpu',
  backend: 'cpu',
  description: 'stub',
  device: 'none',
  storage: 'float32',
  threads: 1,
  memory: () => ({ liveBytes: 0, peakBytes: 0, reservedBytes: 0 }),
  resetPeak: () => undefined,
  availableBytes: () => 2 ** 40,
  synchronize: () => Promise.resolve(),
};
