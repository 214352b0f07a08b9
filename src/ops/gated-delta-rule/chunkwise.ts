/**
 * The chunkwise form composed of batched matrix products. With G the sum of logDecay since the start of a chunk, inclusive, S the
 * state before it, and D_ij = exp(G_i - G_j), what position i writes is
 *
 *     n_i = β_i (v_i - exp(G_i) k_i S - Σ_{j<i} (k_i · k_j) D_ij n_j)
 *
 * that is N = (I + A)⁻¹ β (V - exp(G) K S) with A_ij = β_i (k_i · k_j) D_ij below the diagonal, after which
 * output = exp(G) Q S + ((Q Kᵀ) ∘ D) N and S' = exp(G_C) S + (exp(G_C - G) K)ᵀ N.
 */
import * as tf from '../../tf.js';
import { float32 } from '../float32.js';
import { cutChunks, fromChunks, range, toChunks, triangle, type Chunks } from '../gated-retention/chunks.js';
import type { DeltaAttributes } from '../kernels.js';
import type { DeltaInputs } from './gated-delta-rule.js';
import { recurrentDelta } from './recurrent.js';

export interface DeltaChunks extends Chunks {
  /** [M, C, 1] */
  readonly betas: tf.Tensor3D;
  /** (k_i · k_j) D_ij for i > j, else 0: [M, C, C]. */
  readonly overlaps: tf.Tensor3D;
  /** (I + A)⁻¹, [M, C, C]. */
  readonly inverse: tf.Tensor3D;
}

/** The system of a chunk is solved in float32 whatever the storage. */
function float32Inputs({ q, k, v, logDecay, beta }: DeltaInputs): Omit<DeltaInputs, 'state'> {
  return {
    q: float32(q),
    k: float32(k),
    v: float32(v),
    logDecay: float32(logDecay),
    beta: float32(beta),
  };
}

export function cutDeltaChunks(
  inputs: DeltaInputs,
  { queryScale, keyScale }: DeltaAttributes,
  chunkSize: number,
): DeltaChunks {
  const wide = float32Inputs(inputs);
  const chunks = cutChunks(wide, chunkSize, { query: queryScale, key: keyScale });
  const { keys, decays, size } = chunks;
  const betas = toChunks(tf.expandDims(wide.beta, 3), size);
  const below = triangle(size, (i, j) => i > j);
  const overlaps = tf.mul<tf.Tensor3D>(tf.mul(tf.matMul(keys, keys, false, true), decays), below);
  return { ...chunks, betas, overlaps, inverse: invert(tf.mul(overlaps, betas)) };
}

/**
 * (I + A)⁻¹ of strictly lower triangular matrices [M, C, C], by the inverses of diagonal blocks of 1, 2, 4, … rows: of
 * [[L, 0], [B, R]] it is [[L⁻¹, 0], [-R⁻¹ B L⁻¹, R⁻¹]]. A series of powers of A would lose all digits where keys are alike.
 */
function invert(a: tf.Tensor3D): tf.Tensor3D {
  const size = a.shape[1];
  let inverse = tf.tile(tf.expandDims<tf.Tensor3D>(float32(tf.eye(size)), 0), [a.shape[0], 1, 1]);
  for (let rows = 1; rows < size; rows *= 2) {
    const held = inverse;
    inverse = tf.tidy(() => {
      const joined = tf.mul<tf.Tensor3D>(a, joining(size, rows));
      return tf.sub(held, tf.matMul(held, tf.matMul(joined, held)));
    });
    held.dispose();
  }
  return inverse;
}

/** Ones where a block of `rows` rows has those before it that are in the same block of twice as many. */
function joining(size: number, rows: number): tf.Tensor2D {
  const block = (i: number): number => Math.floor(i / rows);
  return triangle(size, (i, j) => block(i) % 2 === 1 && block(j) === block(i) - 1);
}

/** What the chunks compute one after the other, of the states S (or their gradients) and X. */
export interface DeltaSweep {
  /** S before every chunk, [M, Dk, Dv]. */
  readonly before: tf.Tensor3D;
  /** X, [M, C, Dv]. */
  readonly updates: tf.Tensor3D;
  /** The last S, [B * H, Dk, Dv]. */
  readonly last: tf.Tensor3D;
}

/** Access to the chunks of number n of all heads: [M, R, W] as [B * H, R, W]. */
function chunkOf({ batch, heads, count }: Chunks, x: tf.Tensor3D, n: number): tf.Tensor3D {
  const [, rows, width] = x.shape;
  const sequences = batch * heads;
  const all = tf.reshape<tf.Rank.R4>(x, [sequences, count, rows, width]);
  return tf.reshape(tf.slice(all, [0, n, 0, 0], [sequences, 1, rows, width]), [sequences, rows, width]);
}

/** The inverse: parts [B * H, R, W] of all chunks, by their numbers, as [M, R, W]. */
function joinChunks(parts: readonly tf.Tensor3D[]): tf.Tensor3D {
  const [sequences, rows, width] = (parts[0] as tf.Tensor3D).shape;
  return tf.reshape(tf.stack([...parts], 1), [sequences * parts.length, rows, width]);
}

/** S' = exp(G_C) S + base + writeᵀ X with X = given + read S, from chunk to chunk. */
export interface DeltaStep {
  /** [M, C, Dv] */
  readonly given: tf.Tensor3D;
  /** [M, C, Dk] */
  readonly read: tf.Tensor3D;
  readonly write: tf.Tensor3D;
  /** [M, Dk, Dv]; absent: zeros. */
  readonly base?: tf.Tensor3D;
}

/**
 * @param initial [B, H, Dk, Dv]; absent: zeros
 * @param order numbers of the chunks
 */
export function sweep(
  chunks: DeltaChunks,
  { given, read, write, base }: DeltaStep,
  initial: tf.Tensor4D | undefined,
  order: readonly number[],
): DeltaSweep {
  const { batch, heads, keyWidth, valueWidth, across } = chunks;
  const shape: tf.ShapeMap['R3'] = [batch * heads, keyWidth, valueWidth];
  const [states, updates]: [tf.Tensor3D[], tf.Tensor3D[]] = [[], []];
  let current = float32<tf.Tensor3D>(initial ? tf.reshape(initial, shape) : tf.zeros(shape));
  for (const n of order) {
    const before = current;
    const at = (x: tf.Tensor3D): tf.Tensor3D => chunkOf(chunks, x, n);
    const [update, after] = tf.tidy((): [tf.Tensor3D, tf.Tensor3D] => {
      const update = tf.add<tf.Tensor3D>(at(given), tf.matMul(at(read), before));
      const decay = tf.slice(across, [0, n, 0], [batch * heads, 1, 1]);
      const kept = tf.mul<tf.Tensor3D>(before, decay);
      const written = tf.add<tf.Tensor3D>(kept, tf.matMul(at(write), update, true, false));
      return [update, base ? tf.add(written, at(base)) : written];
    });
    states[n] = before;
    updates[n] = update;
    current = after;
  }
  return { before: joinChunks(states), updates: joinChunks(updates), last: current };
}

/** The states and N. */
export function advance(chunks: DeltaChunks, state: tf.Tensor4D | undefined): DeltaSweep {
  const { inverse, values, betas, keys, fromStart, toEnd } = chunks;
  const early = tf.mul<tf.Tensor3D>(tf.mul(keys, fromStart), betas);
  const read: tf.Tensor3D = tf.matMul(inverse, early);
  const step: DeltaStep = {
    given: tf.matMul(inverse, tf.mul<tf.Tensor3D>(values, betas)),
    read: tf.neg(read),
    write: tf.mul<tf.Tensor3D>(keys, toEnd),
  };
  return sweep(chunks, step, state, range(chunks.count));
}

/** Outputs: output [B, T, H, Dv] and the last state [B, H, Dk, Dv]. */
export function composeDelta(inputs: DeltaInputs, attrs: DeltaAttributes, chunkSize: number): tf.Tensor[] {
  if (inputs.q.shape[1] === 1) {
    const { output, state } = recurrentDelta(inputs, attrs);
    return [output, state];
  }
  const chunks = cutDeltaChunks(inputs, attrs, chunkSize);
  const { queries, keys, decays, fromStart, batch, heads, keyWidth, valueWidth } = chunks;
  const { before, updates, last } = advance(chunks, inputs.state);
  const scores = tf.mul<tf.Tensor3D>(tf.matMul(queries, keys, false, true), decays);
  const carried = tf.matMul(tf.mul<tf.Tensor3D>(queries, fromStart), before);
  const output = tf.add<tf.Tensor3D>(tf.matMul(scores, updates), carried);
  return [fromChunks(output, chunks), tf.reshape(last, [batch, heads, keyWidth, valueWidth])];
}
