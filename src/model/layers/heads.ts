/** Between activations [B, T, H * D] and heads [B, T, H, D]. */
import { reshape, rotary, type RotaryOptions, rotaryPair } from '../../ops/index.js';
import type { RotaryStyle } from '../../ops/kernels.js';
import type * as tf from '../../tf.js';
import type { Rows } from './layer.js';

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

export function rotateHeads(x: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
  return rotation === null ? x : rotary(x, rotationAt(rows, rotation));
}

/** Queries and keys of the same rows. */
export function rotatePair(
  q: tf.Tensor4D,
  k: tf.Tensor4D,
  rows: Rows,
  rotation: Rotation,
): [q: tf.Tensor4D, k: tf.Tensor4D] {
  return rotation === null ? [q, k] : rotaryPair(q, k, rotationAt(rows, rotation));
}
