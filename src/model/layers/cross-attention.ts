/** Attention of YOCO's cross-decoder: its layers have queries of their own and share one set of keys and values. */
import { causalAttention, KeyValuePages, linear, pagedAttention } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { mergeHeads, rotateHeads, rotationAt, splitHeads, type Rotation } from './heads.js';
import type { Mixer, Rows } from './layer.js';

/** Keys and values of all positions, [B, T, Hkv, D]: the present ones, or those of a cache. */
export type GlobalMemory = readonly [keys: tf.Tensor4D, values: tf.Tensor4D] | KeyValuePages;

export class CrossAttention implements Mixer<GlobalMemory> {
  constructor(
    private readonly query: tf.Variable,
    private readonly out: tf.Variable,
    private readonly heads: number,
    private readonly rotation: Rotation,
  ) {}

  get weights(): tf.Variable[] {
    return [this.query, this.out];
  }

  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: GlobalMemory): tf.Tensor3D {
    const attended = tf.tidy(() => {
      const queries = (): tf.Tensor4D => splitHeads(linear(x, this.query), this.heads);
      if (memory instanceof KeyValuePages) {
        const rotation = this.rotation && rotationAt(rows, this.rotation);
        return mergeHeads(pagedAttention(queries(), memory, { rotation }));
      }
      const [keys, values] = memory;
      const q = tf.tidy(() => rotateHeads(queries(), rows, this.rotation));
      return mergeHeads(causalAttention(q, keys, values, { positions: rows.positions }));
    });
    return linear(attended, this.out, residual) as tf.Tensor3D;
  }
}
