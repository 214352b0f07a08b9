/**
 * What a layer of constant state reads out of it for the rows of a pass, before any norm or gate: gated memory units of later
 * layers multiply it (SambaY, arXiv 2507.06607). It belongs to the rows, not to the cache.
 */
import * as tf from '../../tf.js';

export class Readout {
  private held: tf.Tensor3D | null = null;
  private isOwner = false;

  /** @param isRead whether later layers read it: it is then kept until `dispose` */
  constructor(readonly isRead: boolean) {}

  /** Of a tensor that belongs to someone else. */
  static of(value: tf.Tensor): Readout {
    const readout = new Readout(true);
    readout.held = value as tf.Tensor3D;
    return readout;
  }

  /** Leaves what a layer has read, [B, T, W], to those after it, if there are any; it outlives the surrounding tidy. */
  offer(value: () => tf.Tensor3D): void {
    if (!this.isRead) return;
    this.held = tf.keep(value());
    this.isOwner = true;
  }

  get value(): tf.Tensor3D {
    if (this.held === null) throw new TypeError('no layer has left a readout');
    return this.held;
  }

  /** That of some of the rows. @param choose of [B, T, W], in the surrounding tidy */
  rows(choose: (x: tf.Tensor3D) => tf.Tensor3D): Readout {
    return this.held === null ? this : Readout.of(choose(this.held));
  }

  dispose(): void {
    if (this.isOwner) this.held?.dispose();
    this.held = null;
  }
}

/** For layers that neither read one nor are read. */
export const NO_READOUT = new Readout(false);
