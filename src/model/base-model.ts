/** What both architectures share: parameters, the output head, and the routes that follow from `extend`. */
import { RunError } from '../errors.js';
import {
  embedding,
  linear,
  linearCrossEntropy,
  recomputed,
  reshape,
  rmsNorm,
  weightedCrossEntropy,
} from '../ops/index.js';
import * as tf from '../tf.js';
import { LayerCache, type Memory, type ModelCache } from './cache.js';
import type { ModelConfig } from './config.js';
import { defaultChunkSize } from './costs.js';
import type {
  CacheOptions,
  ExtendOptions,
  LanguageModel,
  LogitsWanted,
  LossOptions,
  Objective,
  PrefillOptions,
} from './language-model.js';
import type { Layer, Rows } from './layers/layer.js';
import type { Weights } from './weights.js';

/** Rows from the first position on. */
export const FROM_START: Rows = { start: 0, positions: null };

export interface HeadWeights {
  readonly norm: tf.Variable;
  /** [vocabulary, dim] */
  readonly output: tf.Variable;
}

export abstract class BaseModel implements LanguageModel {
  protected abstract readonly head: HeadWeights;

  protected constructor(
    readonly config: ModelConfig,
    protected readonly weights: Weights,
  ) {}

  get parameters(): ReadonlyMap<string, tf.Variable> {
    return this.weights.variables;
  }

  /**
   * Hidden states before the final norm, [B, T, dim], or [B, P, dim] at `positions`; nothing is cached.
   * @param recompute keep only the layers' inputs for the backward pass
   */
  protected abstract hidden(
    tokens: tf.Tensor2D,
    positions: Int32Array | null,
    recompute: boolean,
  ): tf.Tensor3D;

  /**
   * Appends tokens from position `start` on to what is remembered; hidden states of all positions, of the last
   * ([B, 1, dim]), or of none.
   */
  protected abstract advance(
    tokens: tf.Tensor2D,
    memories: readonly Memory[],
    start: number,
    wanted: LogitsWanted,
    earlyExit: boolean,
  ): tf.Tensor3D | null;

  /** Whether these are the memories of a cache of this model. */
  protected abstract fits(memories: readonly Memory[]): boolean;

  abstract createCache(options?: CacheOptions): ModelCache;

  forward(tokens: tf.Tensor2D): tf.Tensor3D {
    return tf.tidy(() => this.logits(this.hidden(tokens, null, false)));
  }

  loss(tokens: tf.Tensor2D, targets: tf.Tensor2D, options: LossOptions = {}): tf.Tensor2D {
    return tf.tidy(() => {
      const { x, wanted, shape } = this.lossRows(tokens, targets, options);
      return reshape<tf.Rank.R2>(linearCrossEntropy(x, this.outputWeight, wanted), shape);
    });
  }

  objective(
    tokens: tf.Tensor2D,
    targets: tf.Tensor2D,
    weights: tf.Tensor2D | null,
    options: LossOptions = {},
  ): Objective {
    return tf.tidy(() => {
      const { x, wanted, shape } = this.lossRows(tokens, targets, options);
      const factors = weights && tf.reshape<tf.Rank.R1>(weights, [wanted.size]);
      const { total, losses } = weightedCrossEntropy(x, this.outputWeight, wanted, factors);
      return { total, losses: tf.reshape<tf.Rank.R2>(losses, shape) };
    });
  }

  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions & { logits: 'none' }): null;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions & { logits: 'last' }): tf.Tensor2D;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions & { logits: 'all' }): tf.Tensor3D;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions): tf.Tensor2D | tf.Tensor3D | null;
  extend(
    tokens: tf.Tensor2D,
    cache: ModelCache,
    { logits, earlyExit = true }: ExtendOptions,
  ): tf.Tensor2D | tf.Tensor3D | null {
    if (!(cache instanceof LayerCache) || !this.fits(cache.memories)) {
      throw new RunError('the cache was made by a model of another configuration');
    }
    const [batch, count] = tokens.shape;
    if (batch !== cache.batch) {
      throw new RangeError(`the cache is for ${cache.batch} sequences, but tokens have ${batch}`);
    }
    if (count === 0) throw new RangeError('no tokens to extend the cache by');
    const [result] = tf.tidy((): (tf.Tensor2D | tf.Tensor3D)[] => {
      const hidden = this.advance(tokens, cache.memories, cache.length, logits, earlyExit);
      cache.length += count;
      if (hidden === null) return [];
      const scores = this.logits(hidden);
      return [logits === 'all' ? scores : tf.reshape<tf.Rank.R2>(scores, [batch, this.config.vocabSize])];
    });
    return result ?? null;
  }

  prefill(tokens: tf.Tensor2D, cache: ModelCache, options: PrefillOptions = {}): tf.Tensor2D {
    const { chunkSize = defaultChunkSize(this.config), onProgress, earlyExit = true } = options;
    const [batch, count] = tokens.shape;
    if (!(chunkSize >= 1)) throw new RangeError(`chunkSize must be positive, found ${chunkSize}`);
    let logits: tf.Tensor2D | null = null;
    for (let start = 0; start < count; start += chunkSize) {
      const length = Math.min(chunkSize, count - start);
      const last = start + length === count;
      const chunk = tf.slice(tokens, [0, start], [batch, length]);
      if (last) logits = this.extend(chunk, cache, { logits: 'last', earlyExit });
      else this.extend(chunk, cache, { logits: 'none', earlyExit });
      chunk.dispose();
      onProgress?.(start + length);
    }
    if (logits === null) throw new RangeError('the prompt has no tokens');
    return logits;
  }

  decode(tokens: tf.Tensor1D, cache: ModelCache): tf.Tensor2D {
    const compute = (tokens: tf.Tensor1D): tf.Tensor2D =>
      tf.tidy(() => this.extend(tf.reshape<tf.Rank.R2>(tokens, [-1, 1]), cache, { logits: 'last' }));
    return cache instanceof LayerCache ? cache.step(tokens, this.weights.list, compute) : compute(tokens);
  }

  load(name: string, values: Float32Array): void {
    this.weights.load(name, values);
  }

  dispose(): void {
    this.weights.dispose();
  }

  private get outputWeight(): tf.Tensor2D {
    return this.head.output as tf.Tensor as tf.Tensor2D;
  }

  /** Rows [N, dim] in front of the output head, and their targets, [N]. */
  private lossRows(
    tokens: tf.Tensor2D,
    targets: tf.Tensor2D,
    { positions, recompute = false }: LossOptions,
  ): { x: tf.Tensor2D; wanted: tf.Tensor1D; shape: [number, number] } {
    const hidden = this.hidden(tokens, positions ? flatten(positions) : null, recompute);
    const [batch, rows, dim] = hidden.shape;
    if (targets.shape[0] !== batch || targets.shape[1] !== rows) {
      throw new RangeError(`targets have shape [${targets.shape.join(', ')}], expected [${batch}, ${rows}]`);
    }
    const x = reshape<tf.Rank.R2>(this.finalNorm(hidden), [batch * rows, dim]);
    return { x, wanted: tf.reshape<tf.Rank.R1>(targets, [batch * rows]), shape: [batch, rows] };
  }

  private finalNorm(hidden: tf.Tensor3D): tf.Tensor3D {
    return rmsNorm(hidden, this.head.norm, this.config.normEps);
  }

  private logits(hidden: tf.Tensor3D): tf.Tensor3D {
    return linear(this.finalNorm(hidden), this.head.output) as tf.Tensor3D;
  }
}

/** The last row of [B, T, dim], [B, 1, dim]: x itself where it has no other. */
export function lastRow(x: tf.Tensor3D): tf.Tensor3D {
  const [batch, count, dim] = x.shape;
  return count === 1 ? x : tf.slice(x, [0, count - 1, 0], [batch, 1, dim]);
}

/** One layer after the other; x is taken over. */
export function runLayers<M>(
  x: tf.Tensor3D,
  layers: readonly Layer<M>[],
  step: (layer: Layer<M>, x: tf.Tensor3D, index: number) => tf.Tensor3D,
): tf.Tensor3D {
  return layers.reduce((current, layer, i) => step(layer, current, i), x);
}

/** A layer that keeps only its inputs for the backward pass: x, and what else it reads that has a gradient. */
export function recomputedLayer<M>(
  layer: Layer<M>,
  x: tf.Tensor3D,
  rows: Rows,
  shared: readonly tf.Tensor[],
  memory: (...shared: tf.Tensor[]) => M,
): tf.Tensor3D {
  const compute = (x: tf.Tensor, ...rest: tf.Tensor[]): tf.Tensor =>
    layer.forward(x as tf.Tensor3D, rows, memory(...rest));
  return recomputed(compute, [x, ...shared], layer.weights) as tf.Tensor3D;
}

/** The rows of x [B, T, dim] at `positions` ([B, P] row-major), [B, P, dim]. */
export function pickRows(x: tf.Tensor3D, positions: Int32Array): tf.Tensor3D {
  const [batch, time, dim] = x.shape;
  const perSequence = positions.length / batch;
  const rows = positions.map((position, i) => Math.floor(i / perSequence) * time + position);
  const ids = tf.tensor2d(rows, [batch, perSequence], 'int32');
  return embedding(reshape(x, [batch * time, dim]), ids) as tf.Tensor3D;
}

function flatten(lists: readonly ArrayLike<number>[]): Int32Array {
  const length = lists[0]?.length ?? 0;
  if (lists.some((list) => list.length !== length)) {
    throw new RangeError('every sequence must have the same number of positions');
  }
  return Int32Array.from(lists.flatMap((list) => Array.from(list)));
}
