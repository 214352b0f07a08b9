/**
 * Causal self-attention: of the Transformer over its whole context, and, with a window, the constant-state mixer of
 * YOCO's other self-decoder.
 */
import { causalAttention, KeyValuePages, linear, linearGroup, pagedAttention } from '../../ops/index.js';
import * as tf from '../../tf.js';
import type { LayerState } from '../cache.js';
import { mergeHeads, rotatePair, rotationAt, splitHeads, type Rotation } from './heads.js';
import type { Mixer, Rows } from './layer.js';

export interface AttentionWeights {
  readonly query: tf.Variable;
  readonly key: tf.Variable;
  readonly value: tf.Variable;
  readonly out: tf.Variable;
}

export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly window: number | null;
  readonly rotation: Rotation;
}

/** With a window a layer remembers its last window - 1 keys and values, without one all of them. */
export type AttentionMemory = LayerState | KeyValuePages | null;

export class SelfAttention implements Mixer<AttentionMemory> {
  constructor(
    private readonly own: AttentionWeights,
    private readonly shape: AttentionShape,
  ) {}

  get weights(): tf.Variable[] {
    const { query, key, value, out } = this.own;
    return [query, key, value, out];
  }

  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: AttentionMemory): tf.Tensor3D {
    const { query, key, value, out } = this.own;
    const { heads, kvHeads, rotation } = this.shape;
    const attended = tf.tidy(() => {
      const [q, k, v] = tf.tidy((): [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D] => {
        const [q, k, v] = linearGroup(x, [query, key, value]) as [tf.Tensor, tf.Tensor, tf.Tensor];
        const [queries, keys, values] = [
          splitHeads(q, heads),
          splitHeads(k, kvHeads),
          splitHeads(v, kvHeads),
        ];
        if (memory instanceof KeyValuePages) return [queries, keys, values];
        return [...rotatePair(queries, keys, rows, rotation), values];
      });
      if (!(memory instanceof KeyValuePages)) return mergeHeads(this.attend(q, k, v, memory));
      const turn = rotation && rotationAt(rows, rotation);
      memory.append(k, v, turn);
      return mergeHeads(pagedAttention(q, memory, { window: this.shape.window, rotation: turn }));
    });
    return linear(attended, out, residual) as tf.Tensor3D;
  }

  private attend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, memory: LayerState | null): tf.Tensor4D {
    const { window } = this.shape;
    if (memory === null) return causalAttention(q, k, v, { window });
    const [oldKeys, oldValues] = memory.get();
    const keys = oldKeys ? tf.concat([oldKeys, k], 1) : k;
    const values = oldValues ? tf.concat([oldValues, v], 1) : v;
    const attended = causalAttention(q, keys, values, { window });
    const kept = Math.min(keys.shape[1], (window ?? Infinity) - 1);
    memory.replace(kept === 0 ? [] : [lastRows(keys, kept), lastRows(values, kept)]);
    return attended;
  }
}

function lastRows(x: tf.Tensor4D, count: number): tf.Tensor4D {
  const [batch, time, heads, width] = x.shape;
  return tf.slice(x, [0, time - count, 0, 0], [batch, count, heads, width]);
}
