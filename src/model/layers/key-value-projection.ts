/** YOCO's `memory`: one set of keys and values, projected from the residual stream, for all layers after it. */
import { linearGroup, preNorm } from '../../ops/index.js';
import * as tf from '../../tf.js';
import type { KeyValueMemory } from '../state/memory.js';
import { type Rotation, type Rows, splitHeads } from './heads.js';

export interface ProjectionWeights {
  readonly key: tf.Variable;
  readonly value: tf.Variable;
  readonly norm: tf.Variable;
}

export class KeyValueProjection {
  constructor(
    private readonly own: ProjectionWeights,
    private readonly kvHeads: number,
    private readonly rotation: Rotation,
    private readonly normEps: number,
  ) {}

  /** Appends the keys and values of hidden states [B, T, dim]. @returns the states for the layers after it */
  append(hidden: tf.Tensor3D, rows: Rows, memory: KeyValueMemory): tf.Tensor3D {
    const { key, value, norm } = this.own;
    return tf.tidy(() => {
      const [normed, residual] = preNorm(hidden, norm, this.normEps);
      const [keys, values] = tf.tidy((): [tf.Tensor4D, tf.Tensor4D] => {
        const [k, v] = linearGroup(normed, [key, value]) as [tf.Tensor, tf.Tensor];
        return [splitHeads(k, this.kvHeads), splitHeads(v, this.kvHeads)];
      });
      memory.append(keys, values, rows, this.rotation);
      return residual;
    });
  }
}
