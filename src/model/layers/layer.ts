/** The layer that both architectures are made of: y = x + mixer(norm(x)), then y + ffn(norm(y)). */
import { linear, linearSwiglu, rmsNorm } from '../../ops/index.js';
import * as tf from '../../tf.js';

/** Where the rows of an activation stand in their sequences. */
export interface Rows {
  /** Position of the first row, where `positions` is null: row t is at start + t. */
  readonly start: number;
  /** Position of every row, [B, T] row-major. */
  readonly positions: Int32Array | null;
}

/** Mixes positions. `Memory` is what it reads beside x: a cache, or the global keys and values. */
export interface Mixer<Memory> {
  readonly weights: readonly tf.Variable[];
  /** residual + mixing of x, both [B, T, dim]. */
  mix(x: tf.Tensor3D, residual: tf.Tensor3D, rows: Rows, memory: Memory): tf.Tensor3D;
}

/** w2( silu(w1 x) * w3 x ). */
export interface FeedForwardWeights {
  /** The activated projection, [hidden, dim]: `fc1` of YOCO, `w1` of Llama. */
  readonly activated: tf.Variable;
  /** The linear projection, [hidden, dim]: `gate` of YOCO, `w3` of Llama. */
  readonly gate: tf.Variable;
  /** [dim, hidden]: `fc2` of YOCO, `w2` of Llama. */
  readonly out: tf.Variable;
}

export class Layer<Memory> {
  constructor(
    private readonly mixer: Mixer<Memory>,
    private readonly mixerNorm: tf.Variable,
    private readonly feedForward: FeedForwardWeights,
    private readonly feedForwardNorm: tf.Variable,
    private readonly normEps: number,
  ) {}

  get weights(): tf.Variable[] {
    const { activated, gate, out } = this.feedForward;
    return [...this.mixer.weights, this.mixerNorm, activated, gate, out, this.feedForwardNorm];
  }

  /** @param x [B, T, dim]; taken over, and let go when the mixer has added to it: before the widest moment. */
  forward(x: tf.Tensor3D, rows: Rows, memory: Memory): tf.Tensor3D {
    return tf.tidy(() => {
      const mixed = tf.tidy(() => this.mixer.mix(rmsNorm(x, this.mixerNorm, this.normEps), x, rows, memory));
      x.dispose();
      return this.feed(mixed);
    });
  }

  private feed(x: tf.Tensor3D): tf.Tensor3D {
    const { activated, gate, out } = this.feedForward;
    const hidden = tf.tidy(() => {
      const normed = rmsNorm(x, this.feedForwardNorm, this.normEps);
      return linearSwiglu(normed, activated, gate);
    });
    return linear(hidden, out, x) as tf.Tensor3D;
  }
}
