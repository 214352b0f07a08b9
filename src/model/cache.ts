/** What a model remembers of the tokens it has consumed, so that the next ones can be computed alone. */
import { KeyValuePages } from '../ops/index.js';
import * as tf from '../tf.js';
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
  bytes(): CacheBytes;
  dispose(): void;
}

/** Tensors of constant size that a layer replaces as it consumes tokens; empty before the first. */
export class LayerState {
  private tensors: tf.Tensor4D[] = [];
  /** Whether a fork reads the same memory: then it must not be written to. */
  private shared = false;

  get(): readonly tf.Tensor4D[] {
    return this.tensors;
  }

  /** Takes the tensors over: they outlive the surrounding tidy. */
  replace(tensors: readonly tf.Tensor4D[]): void {
    for (const tensor of tensors) tf.keep(tensor);
    tf.dispose(this.tensors);
    this.tensors = [...tensors];
    this.shared = false;
  }

  /** Whether the tensors may be changed in place. */
  get isOwn(): boolean {
    return !this.shared;
  }

  get bytes(): number {
    return this.tensors.reduce((sum, tensor) => sum + 4 * tensor.size, 0);
  }

  fork(): LayerState {
    const copy = new LayerState();
    // Shared states are replaced, not written to, until one side has its own again.
    copy.replace(this.tensors.map((tensor) => tf.clone(tensor)));
    copy.shared = this.shared = true;
    return copy;
  }

  dispose(): void {
    this.replace([]);
  }
}

/** What one layer, or all layers together, remember. */
export type Memory = LayerState | KeyValuePages;

/** The memories of a model, in the order in which the model wants them. */
export class LayerCache implements ModelCache {
  private readonly replay = new StepReplay(this);

  constructor(
    readonly batch: number,
    readonly memories: readonly Memory[],
    public length = 0,
  ) {}

  fork(): LayerCache {
    const memories = this.memories.map((memory) => memory.fork());
    return new LayerCache(this.batch, memories, this.length);
  }

  bytes(): CacheBytes {
    let [keyValue, state] = [0, 0];
    for (const memory of this.memories) {
      if (memory instanceof KeyValuePages) keyValue += memory.bytes;
      else state += memory.bytes;
    }
    return { keyValue, state };
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
