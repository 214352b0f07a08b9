/**
 * Causal self-attention: of the Transformer over its whole context, and, with a window, the constant-state mixer of
 * YOCO's other self-decoder.
 */
import {
  causalAttention,
  inOrder,
  joined,
  KeyValuePages,
  type KeysAndValues,
  linear,
  linearGroup,
  pagedAttention,
  ringOf,
  withPosition,
} from '../../ops/index.js';
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

/** With a window a layer remembers a ring of its last keys and values, without one pages of all. */
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
      if (!(memory instanceof KeyValuePages)) return mergeHeads(this.attend(q, [k, v], rows, memory));
      const turn = rotation && rotationAt(rows, rotation);
      memory.append(k, v, turn);
      return mergeHeads(pagedAttention(q, memory, { window: this.shape.window, rotation: turn }));
    });
    return linear(attended, out, residual) as tf.Tensor3D;
  }

  private attend(q: tf.Tensor4D, now: KeysAndValues, rows: Rows, memory: LayerState | null): tf.Tensor4D {
    const { window } = this.shape;
    if (memory === null) return causalAttention(q, ...now, { window });
    if (window === null) throw new TypeError('a state holds the keys of a window only');
    const { start } = rows;
    const count = q.shape[1];
    const ring = memory.get() as readonly [] | KeysAndValues;
    if (count === 1 && ring.length !== 0 && ring[0].shape[1] === window) {
      const next = withPosition(ring, now, start, memory.isOwn);
      if (next !== ring) memory.replace(next);
      // One position sees all of a full window, whatever the order.
      return causalAttention(q, ...next, {});
    }
    const all = ring.length === 0 ? now : joined(inOrder(ring, start, window), now);
    memory.replace(ringOf(all, start + count, window));
    return causalAttention(q, ...all, { window });
  }
}
