/** The layer that all models are made of: y = x + mixer(norm(x)), then y + ffn(norm(y)). */
import { linear, linearSwiglu, preNorm } from '../../ops/index.js';
import * as tf from '../../tf.js';
import type { Mixer } from '../mixers/mixer.js';
import type { Memory } from '../state/memory.js';
import type { Rows } from './heads.js';
import type { Readout } from './readout.js';

/** w2( silu(w1 x) * w3 x ), and the norms before the mixer and before it. */
export interface LayerWeights {
  readonly mixerNorm: tf.Variable;
  /** The activated projection, [hidden, dim]: `fc1` of YOCO, `w1` of Llama. */
  readonly activated: tf.Variable;
  /** The linear projection, [hidden, dim]: `gate` of YOCO, `w3` of Llama. */
  readonly gate: tf.Variable;
  /** [dim, hidden]: `fc2` of YOCO, `w2` of Llama. */
  readonly out: tf.Variable;
  readonly feedForwardNorm: tf.Variable;
}

export class Layer {
  constructor(
    private readonly mixer: Mixer,
    private readonly own: LayerWeights,
    private readonly normEps: number,
  ) {}

  get weights(): tf.Variable[] {
    const { mixerNorm, activated, gate, out, feedForwardNorm } = this.own;
    return [...this.mixer.weights, mixerNorm, activated, gate, out, feedForwardNorm];
  }

  /** @param x [B, T, dim]; disposed of when the mixer has added to it, before the feed-forward network, which needs the most memory */
  forward(x: tf.Tensor3D, rows: Rows, memory: Memory, readout: Readout): tf.Tensor3D {
    return tf.tidy(() => {
      const mixed = tf.tidy(() => {
        const [normed, residual] = preNorm(x, this.own.mixerNorm, this.normEps);
        return this.mixer.mix(normed, residual, rows, memory, readout);
      });
      x.dispose();
      return this.feed(mixed);
    });
  }

  private feed(x: tf.Tensor3D): tf.Tensor3D {
    const { activated, gate, out, feedForwardNorm } = this.own;
    const [hidden, residual] = tf.tidy(() => {
      const [normed, residual] = preNorm(x, feedForwardNorm, this.normEps);
      return [linearSwiglu(normed, activated, gate), residual];
    });
    return linear(hidden, out, residual) as tf.Tensor3D;
  }
}
