/** What a model can do. All calls compute on the current tfjs backend. */
import type { CacheType } from '../ops/index.js';
import type * as tf from '../tf.js';
import type { ModelCache } from './state/state-cache.js';
import type { Stretch } from './divided-runs.js';
import type { ModelConfig } from './config.js';

export interface CacheOptions {
  /** Sequences decoded side by side; default 1. */
  readonly batch?: number;
  /** Positions the cache is going to hold at most, when known: small caches get small pages. */
  readonly maxTokens?: number;
  /**
   * Positions per page of keys and values; default 4,096, or fewer where `maxTokens` is less. A fork copies the last page when
   * it continues, so that caches with many forks want small ones.
   */
  readonly pageSize?: number;
  /** How keys and values are stored; null: as the engine stores tensors. Default: what the engine was started with. */
  readonly type?: CacheType | null;
}

export interface LossOptions {
  /**
   * Positions at which to compute the loss: one ascending list per sequence, all of equal length P. Layers after the last
   * one that remembers anything (YOCO's cross-decoder) and the output head run at these positions only. Default: all.
   */
  readonly positions?: readonly ArrayLike<number>[];
  /**
   * Keep only the inputs of every layer for the backward pass and compute the rest again: one more forward pass of
   * time, for a fraction of the memory. Default false.
   */
  readonly recompute?: boolean;
}

export interface Objective {
  readonly total: tf.Scalar;
  /** Nats, of the targets' shape. */
  readonly losses: tf.Tensor2D;
}

export interface PrefillOptions {
  /** Tokens per chunk; default `chunkTokens` of the model. */
  readonly chunkSize?: number;
  /** Called after every chunk with the tokens consumed so far. */
  readonly onProgress?: (tokens: number) => void;
  /**
   * Default true: all but the last position leave after the last part of the layout that remembers anything: in YOCO after
   * the projection to keys and values. False runs every layer at every position, to measure what that saves. In a
   * Transformer, whose last layer remembers, it makes no difference.
   */
  readonly earlyExit?: boolean;
}

/** Which logits `extend` is to compute; `none` stops as early as the layout allows. */
export type LogitsWanted = 'none' | 'last' | 'all';

export interface ExtendOptions {
  readonly logits: LogitsWanted;
  /** As in `PrefillOptions`. */
  readonly earlyExit?: boolean;
}

/** A sequence of a packed batch: its next tokens, and the cache that they continue. */
export interface PackedSequence {
  /** At least one. */
  readonly tokens: Int32Array;
  /** Of one sequence. */
  readonly cache: ModelCache;
  /** How many of the last tokens' logits are asked for: 0 for none. */
  readonly logits: number;
}

/** Columns of sequences that ranks divide, in their order; each rank has as many. Results are of the columns of targets. */
export interface Stretches {
  readonly tokens: readonly Stretch[];
  readonly targets: readonly Stretch[];
}

export interface LanguageModel {
  readonly config: ModelConfig;
  /** Trainable tensors by the name they have in official checkpoints, in their order. */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  /** Tokens of a prompt to compute at a time: `defaultChunkSize` of `costs.ts`, for each of the ranks that divide sequences. */
  readonly chunkTokens: number;

  /** What `forward`, `loss` and `objective` take of sequences of `length` tokens: all, unless ranks divide them. */
  stretches(length: number): Stretches;

  /** Logits [B, T, V] of tokens, int32 [B, T]. */
  forward(tokens: tf.Tensor2D): tf.Tensor3D;

  /**
   * Cross-entropy in nats of every target: tokens int32 [B, T]; targets int32 [B, T], result [B, T]. With
   * `positions`, targets and result are [B, P]. Differentiable with respect to the parameters.
   */
  loss(tokens: tf.Tensor2D, targets: tf.Tensor2D, options?: LossOptions): tf.Tensor2D;

  /**
   * What training minimises: the sum of these losses times `weights` (of the targets' shape; null: their mean), whose
   * gradient is known while the logits exist. Differentiate `total` only; `losses` is for reports.
   */
  objective(
    tokens: tf.Tensor2D,
    targets: tf.Tensor2D,
    weights: tf.Tensor2D | null,
    options?: LossOptions,
  ): Objective;

  createCache(options?: CacheOptions): ModelCache;

  /** Appends tokens, int32 [B, T], to the cache. Logits: null, of the last position [B, V], or of all [B, T, V]. */
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions & { logits: 'none' }): null;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions & { logits: 'last' }): tf.Tensor2D;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions & { logits: 'all' }): tf.Tensor3D;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions): tf.Tensor2D | tf.Tensor3D | null;

  /**
   * Appends tokens to several caches in one pass, any number to each, without padding: sequences share the matrix products, and
   * mixers see each sequence by itself. What a sequence gets does not depend on the others, but for rounding where an
   * engine's matrix product rounds by the number of rows.
   * @returns logits [R, V]: the rows that each sequence asks for, sequence after sequence; null for none
   * @throws RangeError for a sequence without tokens, a cache of several sequences, or one that is given twice
   */
  extendPacked(sequences: readonly PackedSequence[]): tf.Tensor2D | null;

  /** Appends a prompt in chunks; the logits [B, V] of its last position. */
  prefill(tokens: tf.Tensor2D, cache: ModelCache, options?: PrefillOptions): tf.Tensor2D;

  /** Appends one token per sequence, int32 [B]; the logits [B, V] of the next. */
  decode(tokens: tf.Tensor1D, cache: ModelCache): tf.Tensor2D;

  /**
   * The same model with another θ of rotary positions, on the same parameters: what changes those of one changes the other's,
   * and either's `dispose` frees them.
   */
  withTheta(ropeTheta: number): LanguageModel;

  /**
   * Sets a parameter from values in row-major order.
   * @param keepsFloat32 whether they stay exact where the engine stores tensors in 16 bits; default: they are rounded
   * @throws RunError for an unknown name or another number of values than the parameter has
   */
  load(name: string, values: Float32Array, keepsFloat32?: boolean): void;

  dispose(): void;
}
