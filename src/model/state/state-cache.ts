/** What a model remembers of the tokens it has consumed, so that the next ones can be computed alone. */
import { SOLO, type Communicator } from '../../distributed/communicator.js';
import { RunError } from '../../errors.js';
import type * as tf from '../../tf.js';
import type { Memory } from './memory.js';
import { StepReplay, type StepFunction } from './step-replay.js';

export interface CacheBytes {
  /** Keys and values that grow with the context, as allocated (whole pages). */
  readonly keyValue: number;
  /** Recurrent states and windows, which do not grow. */
  readonly state: number;
}

export interface ModelCache {
  readonly batch: number;
  /** Tokens consumed so far by each sequence. */
  readonly length: number;
  /** An independent continuation: shares the full pages of keys and values, and the rest until it changes. */
  fork(): ModelCache;
  /** Bytes as the engine stores them. */
  bytes(): CacheBytes;
  /** Makes the present length one that `rewind` can return to. */
  mark(): void;
  /** Whether `rewind` can return to this length. */
  canRewind(length: number): boolean;
  /**
   * Forgets the tokens from `length` on. Keys and values of a whole context can return to any length; windows, recurrent states
   * and compressed keys and values to 0 and to the lengths that were marked.
   * @throws RunError for another length: nothing has changed then
   */
  rewind(length: number): void;
  dispose(): void;
}

export interface StateCacheOptions {
  readonly batch: number;
  /** Names the kind of model that can continue it. */
  readonly kind: string;
  /** In the order in which the model wants them. */
  readonly memories: readonly Memory[];
  readonly length?: number;
  /** The ranks that divide the sequences; default: none. */
  readonly ranks?: Communicator;
}

/** The memories of a model, one for every part that remembers. */
export class StateCache implements ModelCache {
  length: number;
  private readonly replay: StepReplay;

  constructor(private readonly options: StateCacheOptions) {
    this.length = options.length ?? 0;
    this.replay = new StepReplay(this, options.ranks ?? SOLO);
  }

  /**
   * The cache as the model that made it sees it.
   * @throws RunError where a model of another kind made it
   */
  static of(cache: ModelCache, kind: string): StateCache {
    if (cache instanceof StateCache && cache.options.kind === kind) return cache;
    throw new RunError('the cache was made by a model of another configuration');
  }

  get batch(): number {
    return this.options.batch;
  }

  get memories(): readonly Memory[] {
    return this.options.memories;
  }

  fork(): StateCache {
    const memories = this.memories.map((memory) => memory.fork());
    return new StateCache({ ...this.options, memories, length: this.length });
  }

  bytes(): CacheBytes {
    const sum = (grows: boolean): number =>
      this.memories.reduce((bytes, memory) => bytes + (memory.grows === grows ? memory.bytes : 0), 0);
    return { keyValue: sum(true), state: sum(false) };
  }

  /** Releases what only the queries of the last call needed. */
  settle(): void {
    for (const memory of this.memories) memory.settle();
  }

  mark(): void {
    for (const memory of this.memories) memory.mark(this.length);
  }

  canRewind(length: number): boolean {
    if (length === this.length) return true;
    const isEarlier = Number.isInteger(length) && length >= 0 && length < this.length;
    return isEarlier && this.memories.every((memory) => memory.canRewind(length));
  }

  rewind(length: number): void {
    if (length === this.length) return;
    if (!this.canRewind(length)) {
      throw new RunError(
        `a cache of ${this.length} tokens cannot return to ${length}: mark() it at that length first, which is what ` +
          'windows and recurrent states can return to',
      );
    }
    for (const memory of this.memories) memory.rewind(length);
    this.length = length;
  }

  /**
   * One decoding step by `compute`, which extends this cache by a token a sequence; or its recording, where the engine
   * records.
   * @param weights what the step reads beside the cache
   */
  step(tokens: tf.Tensor1D, weights: readonly tf.Tensor[], compute: StepFunction): tf.Tensor2D {
    return this.replay.step(tokens, weights, compute);
  }

  dispose(): void {
    this.replay.dispose();
    for (const memory of this.memories) memory.dispose();
  }
}
