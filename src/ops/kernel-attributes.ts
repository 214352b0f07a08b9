/** Attributes of the fused kernels that `kernels.ts` lists; the letters of shapes are explained there. */
import type { CacheType } from './attention/cache-type.js';

/** Pairs of a head that are rotated together: (2i, 2i+1), or (i, i + D/2). */
export type RotaryStyle = 'interleaved' | 'half';

export interface RotaryAttributes {
  /** Position of the first row, when `positions` is null: row t is at start + t. */
  readonly start: number;
  /** Position of every row, [B, T] row-major, or null. */
  readonly positions: Int32Array | null;
  /** Radians per position, one for each of the D/2 pairs. Phases are position * frequency in float64. */
  readonly frequencies: Float64Array;
  readonly style: RotaryStyle;
  /** Rotates by the negative angle: the gradient of a rotation. */
  readonly inverse: boolean;
}

/** Of kernels for inference that rotate what they read, by `Rotary`: row t is at start + t. */
export type RotationAttributes = Pick<RotaryAttributes, 'start' | 'frequencies' | 'style'>;

export interface AttentionAttributes {
  /** Positions a query sees, itself included; null: all positions up to its own. */
  readonly window: number | null;
  /** Factor of the scores before the softmax. */
  readonly scale: number;
}

export interface CausalAttentionAttributes extends AttentionAttributes {
  /**
   * Absolute position of every query, [B, Tq] row-major, each below Tk; null: the queries are the last Tq of the Tk
   * positions. Position p sees keys max(0, p - window + 1) to p.
   */
  readonly positions: Int32Array | null;
}

export interface PagedAttentionAttributes extends AttentionAttributes {
  /** Positions stored in the pages; the queries are the last Tq of them. */
  readonly length: number;
  readonly pageSize: number;
}

/** What grows from run to run of a recorded step: its position, or the keys on this rank before it. */
export type Counter = 'position' | 'keys';

export interface PageWriteAttributes {
  /** First row of the page to write. */
  readonly position: number;
  /** First position of the keys and values to take, and how many. */
  readonly start: number;
  readonly count: number;
  /** What `position` grows with; default `position`. */
  readonly counter?: Counter;
}

/** Of a compressed cache. */
export interface CompressAttributes {
  readonly type: CacheType;
  /** First row of the keys and values to take. */
  readonly row: number;
  /** First group of the page to write, and how many. */
  readonly group: number;
  readonly count: number;
}

export interface CompressedWriteAttributes {
  readonly type: CacheType;
  /** Of the row, in its sequence. */
  readonly position: number;
  readonly pageSize: number;
}

export interface CompressedAttentionAttributes {
  readonly type: CacheType;
  readonly scale: number;
  /** Positions of the cache; the queries are the last Tq of them. */
  readonly length: number;
  readonly pageSize: number;
  /** Row `rawRow` of the keys and values as computed holds position `rawStart`, which begins a group. */
  readonly rawStart: number;
  readonly rawRow: number;
  /** Whether they are a ring of two groups, whose row p mod 2 groups holds position p; else `rawRow` is 0. */
  readonly isRing: boolean;
}

export interface AdamWAttributes {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled: the parameter is first multiplied by 1 - learningRate * weightDecay. */
  readonly weightDecay: number;
  /** 1 for the first update: the moments are divided by 1 - beta^step. */
  readonly step: number;
}

/** Factors of the queries and keys of the gated delta rule. */
export interface DeltaAttributes {
  readonly queryScale: number;
  readonly keyScale: number;
}

/** Of several tensors at once. */
export interface AdamWAllAttributes extends Omit<AdamWAttributes, 'weightDecay'> {
  /** One for each parameter. */
  readonly weightDecays: readonly number[];
}
