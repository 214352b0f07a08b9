/** Between activations [B, T, H * D] and heads [B, T, H, D]. */
import { reshape, type RotaryOptions } from '../../ops/index.js';
import type { RotaryStyle } from '../../ops/kernels.js';
import type * as tf from '../../tf.js';

/** Where the rows of an activation stand in their sequences. */
export interface Rows {
  /** Position of the first row, where `positions` is null: row t is at start + t. */
  readonly start: number;
  /** Position of every row, [B, T] row-major. */
  readonly positions: Int32Array | null;
  /** Whether these are this rank's part of a longer run, of which every rank has as many rows, one rank after the other. */
  readonly isSlice?: boolean;
  /** Position of the first row of the second half, where a slice is two stretches of the run (`divided-runs.ts`). */
  readonly second?: number;
}

/** Rows from the first position on. */
export const FROM_START: Rows = { start: 0, positions: null };

export function splitHeads(x: tf.Tensor, heads: number): tf.Tensor4D {
  const [batch, time, width] = x.shape as [number, number, number];
  return reshape(x, [batch, time, heads, width / heads]);
}

export function mergeHeads(x: tf.Tensor4D): tf.Tensor3D {
  const [batch, time, heads, width] = x.shape;
  return reshape(x, [batch, time, heads * width]);
}

/** How the heads of a layer are rotated. */
export interface HeadRotation {
  readonly frequencies: Float64Array;
  readonly style: RotaryStyle;
}

/** Null: not at all. */
export type Rotation = HeadRotation | null;

/** For ops that rotate what they are given. */
export function rotationAt(rows: Rows, rotation: HeadRotation): RotaryOptions {
  return { ...rows, ...rotation };
}
