/** Rotary position embedding (Su et al., arXiv 2104.09864). */
import * as tf from '../../tf.js';
import { differentiable, runKernel } from '../dispatch.js';
import type { RotaryAttributes, RotaryStyle, RotationAttributes } from '../kernels.js';
import { rotaryTable } from './phases.js';

export interface RotaryOptions {
  /** Position of the first row; default 0. */
  readonly start?: number;
  /** Position of every row, [B, T] row-major, in place of `start`. */
  readonly positions?: Int32Array | null;
  /** Radians per position, one for each of the D/2 pairs. */
  readonly frequencies: Float64Array;
  readonly style: RotaryStyle;
}

/**
 * Rotates every pair (a, b) of a head by phase = position * frequency: (a cos - b sin, b cos + a sin).
 * @param x [B, T, H, D]; pairs are (2i, 2i+1) or (i, i + D/2) by `style`
 */
export function rotary(x: tf.Tensor4D, options: RotaryOptions): tf.Tensor4D {
  const attrs = attributes(options);
  const [y] = differentiable({
    inputs: { x },
    forward: () => [rotate(x, attrs)],
    backward: ([dy]) => ({ x: rotate(dy as tf.Tensor4D, { ...attrs, inverse: true }) }),
  });
  return y as tf.Tensor4D;
}

/** The same of queries [B, T, H, D] and keys [B, T, Hkv, D], in one step. */
export function rotaryPair(
  q: tf.Tensor4D,
  k: tf.Tensor4D,
  options: RotaryOptions,
): [q: tf.Tensor4D, k: tf.Tensor4D] {
  const attrs = attributes(options);
  const turned = differentiable({
    inputs: { q, k },
    forward: () => rotateBoth(q, k, attrs),
    backward: ([dq, dk]) => {
      const [ofQ, ofK] = rotateBoth(dq as tf.Tensor4D, dk as tf.Tensor4D, { ...attrs, inverse: true });
      return { q: ofQ as tf.Tensor, k: ofK as tf.Tensor };
    },
  });
  return turned as [tf.Tensor4D, tf.Tensor4D];
}

/** For kernels that rotate what they read, where `positions` are not given. */
export function rotationAttributes({ start = 0, frequencies, style }: RotaryOptions): RotationAttributes {
  return { start, frequencies, style };
}

function attributes({ start = 0, positions = null, frequencies, style }: RotaryOptions): RotaryAttributes {
  return { start, positions, frequencies, style, inverse: false };
}

function rotateBoth(q: tf.Tensor4D, k: tf.Tensor4D, attrs: RotaryAttributes): tf.Tensor[] {
  return runKernel('RotaryPair', { q, k }, attrs, () => [rotate(q, attrs), rotate(k, attrs)]);
}

function rotate(x: tf.Tensor4D, attrs: RotaryAttributes): tf.Tensor {
  const [y] = runKernel('Rotary', { x }, attrs, () => {
    const [batch, time, , width] = x.shape;
    const rows = attrs.positions ? batch * time : time;
    const { cos, sin } = rotaryTable(attrs, rows);
    const shape: tf.ShapeMap['R4'] = [attrs.positions ? batch : 1, time, 1, width];
    const sign = attrs.inverse ? -1 : 1;
    const cosines = tf.tensor4d(perChannel(cos, width, attrs.style, 1), shape);
    const sines = tf.tensor4d(perChannel(sin, width, attrs.style, sign), shape);
    const turned = tf.reshape(
      tf.matMul(tf.reshape(x, [-1, width]), quarterTurn(width, attrs.style)),
      x.shape,
    );
    return [tf.add(tf.mul(x, cosines), tf.mul(turned, sines))];
  });
  return y as tf.Tensor;
}

/** Channels of pair i in a head of the given width. */
function pairChannels(i: number, width: number, style: RotaryStyle): [number, number] {
  return style === 'interleaved' ? [2 * i, 2 * i + 1] : [i, i + width / 2];
}

/** One entry per channel from one entry per pair. */
function perChannel(table: Float32Array, width: number, style: RotaryStyle, sign: number): Float32Array {
  const pairs = width / 2;
  const spread = new Float32Array(2 * table.length);
  for (let i = 0; i < pairs; i++) {
    const [first, second] = pairChannels(i, width, style);
    for (let row = 0; row * pairs < table.length; row++) {
      const value = sign * (table[row * pairs + i] as number);
      spread[row * width + first] = value;
      spread[row * width + second] = value;
    }
  }
  return spread;
}

/** The matrix that turns every pair (a, b) into (-b, a). */
function quarterTurn(width: number, style: RotaryStyle): tf.Tensor2D {
  const matrix = new Float32Array(width * width);
  for (let i = 0; i < width / 2; i++) {
    const [first, second] = pairChannels(i, width, style);
    matrix[second * width + first] = -1;
    matrix[first * width + second] = 1;
  }
  return tf.tensor2d(matrix, [width, width]);
}
