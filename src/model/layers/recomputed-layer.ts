/** A layer of a whole pass that keeps only its inputs for the backward pass and computes the rest again. */
import { recomputed, recomputedAll } from '../../ops/index.js';
import type * as tf from '../../tf.js';
import type { Memory } from '../state/memory.js';
import { type PassedKeys, PresentKeys } from '../state/present.js';
import type { Rows } from './heads.js';
import type { Layer } from './layer.js';

export interface RecomputedMemory {
  /** Of the pass. */
  readonly memory: Memory;
  /** Whether the memory is the layer's own; otherwise it reads the keys and values of another. */
  readonly remembers: boolean;
  /** Whether later layers read its keys and values. */
  readonly isRead: boolean;
}

/** @param x [B, T, dim]; disposed of */
export function recomputedLayer(
  layer: Layer,
  x: tf.Tensor3D,
  rows: Rows,
  { memory, remembers, isRead }: RecomputedMemory,
): tf.Tensor3D {
  if (!remembers) {
    const read = (memory as PassedKeys).keysAndValues;
    const compute = (x: tf.Tensor, keys: tf.Tensor, values: tf.Tensor): tf.Tensor =>
      layer.forward(x as tf.Tensor3D, rows, PresentKeys.of(keys, values));
    return recomputed(compute, [x, ...read], layer.weights) as tf.Tensor3D;
  }
  if (!isRead) {
    const compute = (x: tf.Tensor): tf.Tensor => layer.forward(x as tf.Tensor3D, rows, memory);
    return recomputed(compute, [x], layer.weights) as tf.Tensor3D;
  }
  const compute = (x: tf.Tensor): tf.Tensor[] => {
    const made = new PresentKeys(true);
    const y = layer.forward(x as tf.Tensor3D, rows, made);
    return [y, ...made.keysAndValues];
  };
  const [y, keys, values] = recomputedAll(compute, [x], layer.weights) as [tf.Tensor3D, tf.Tensor, tf.Tensor];
  (memory as PassedKeys).adopt(keys, values);
  return y;
}
