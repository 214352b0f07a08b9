/** What a mixer is, and what it says about itself: one object of `MixerDefinition` per mixer, in a file of its own. */
import type * as tf from '../../tf.js';
import type { FieldReader } from '../config-fields.js';
import type { Architecture } from '../layouts.js';
import type { Conventions } from '../conventions.js';
import type { ParameterInput } from '../initial-values.js';
import type { Rows } from '../layers/heads.js';
import type { Readout } from '../layers/readout.js';
import type { Memory, MemoryOptions } from '../state/memory.js';

/** The fields that every configuration has. */
export interface Shape {
  readonly architecture: Architecture;
  /** Width of the residual stream. */
  readonly dim: number;
  readonly layers: number;
  /** Width of the SwiGLU feed-forward network. */
  readonly hiddenDim: number;
  /** Query heads of attention over the whole context. */
  readonly heads: number;
  /** Key and value heads there: query head h reads K/V head floor(h / (heads / kvHeads)). */
  readonly kvHeads: number;
  readonly vocabSize: number;
  readonly ropeTheta: number;
  readonly normEps: number;
  /** Positions a query of a sliding window sees, itself included; null where no layer has one. */
  readonly slidingWindow: number | null;
}

/**
 * Mixes positions. `M` is what it remembers or reads. Methods, so that mixers of all kinds of memory stand in one list;
 * the model gives each the memory that its own definition made.
 */
export interface Mixer<M extends Memory = Memory> {
  readonly weights: readonly tf.Variable[];
  /**
   * residual + mixing of x, both [B, T, dim].
   * @param readout to which a mixer with a `readoutWidth` offers what it reads out, or which a gated memory unit reads
   */
  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: M, readout: Readout): tf.Tensor3D;
}

/** What a mixer needs to be built: its parameters by the names it gave them. */
export type WeightOf = (name: string) => tf.Variable;

export interface MixerFlops {
  /** Operations of its projections, per position. */
  readonly projections: number;
  /** Operations of mixing `count` positions that follow `before` others. */
  readonly mixing: (before: number, count: number) => number;
}

/** @typeParam F its own fields of a configuration */
export interface MixerDefinition<F extends object = object, M extends Memory = Memory> {
  /** What texts and legends call it. */
  readonly label: string;
  /** Reads and checks its own fields. @throws UsageError naming the field and what it may be */
  fields(fields: FieldReader, shape: Shape): F;
  /**
   * In the order of checkpoints, without the prefix of the layer.
   * @param readWidth width of the readout of an earlier layer that it reads; 0 where it reads none
   */
  parameters(config: Shape & F, readWidth: number): ParameterInput[];
  build(config: Shape & F, weight: WeightOf, conventions: Conventions): Mixer<M>;
  /** Its memory in a cache; absent where it has none of its own. */
  memory?(config: Shape & F, options: MemoryOptions): M;
  /** Its memory in a pass over whole sequences. @param isRead whether later layers read it */
  present?(config: Shape & F, isRead: boolean): M;
  /** Width of what it reads out of its state, before any norm or gate; absent where gated memory units cannot read it. */
  readoutWidth?(config: Shape & F): number;
  /** Elements per position that it holds at most, the residual stream included; absent where the feed-forward network holds more. */
  activationWidth?(config: Shape & F): number;
  /** Elements of keys and values that it adds to a cache per token. */
  keyValueElements(config: Shape & F): number;
  /** Bytes of its state per sequence, which does not grow (a window when full). */
  stateBytes(config: Shape & F, bytesPerElement: number): number;
  /** @param readWidth as of `parameters` */
  flops(config: Shape & F, readWidth: number): MixerFlops;
}

/** Keys that positions before..before+count-1 see, all together. */
export function keysSeen(before: number, count: number, window: number | null): number {
  const upTo = (n: number): number => {
    const growing = Math.min(n, window ?? Infinity);
    return (growing * (growing + 1)) / 2 + (n - growing) * growing;
  };
  return upTo(before + count) - upTo(before);
}
