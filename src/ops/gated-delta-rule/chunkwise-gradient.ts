/**
 * The gradient of the gated delta rule, chunk by chunk. What the chunks have computed is computed again going forward; then, going
 * backward, with dN = Pᵀ dO + exp(G_C - G) K dS' and P = (Q Kᵀ) ∘ D,
 *
 *     dR = (I + A)⁻ᵀ dN      dV = β dR      dS = exp(G_C) dS' + (exp(G) Q)ᵀ dO - (exp(G) K)ᵀ dV
 *
 * and dA = -dR Nᵀ below the diagonal. With the state divided by exp(G_t), G the cumulative sum over the whole sequence, position t
 * enters as exp(G_t) through its query and exp(-G_t) through its value, so that dL/dG_t = q_t · dq_t - v_t · dv_t, plus
 * <dS_T, S_T> at the last position; dLogDecay is its sum over all later positions.
 */
import * as tf from '../../tf.js';
import { float32 } from '../float32.js';
import { fromChunks, range, toChunks, triangle } from '../gated-retention/chunks.js';
import { decayGradient } from '../gated-retention/chunkwise-gradient.js';
import type { DeltaAttributes } from '../kernels.js';
import {
  advance,
  cutDeltaChunks,
  type DeltaChunks,
  type DeltaStep,
  type DeltaSweep,
  sweep,
} from './chunkwise.js';
import type { DeltaInputs } from './gated-delta-rule.js';

export interface DeltaGradientInputs extends DeltaInputs {
  /** [B, T, H, Dv] */
  readonly dOutput: tf.Tensor4D;
  /** [B, H, Dk, Dv] */
  readonly dFinalState: tf.Tensor4D;
  readonly finalState: tf.Tensor4D;
  readonly [name: string]: tf.Tensor | undefined;
}

/** Outputs: dq, dk, dv, dLogDecay, dBeta, dState. */
export function composeDeltaGradient(
  inputs: DeltaGradientInputs,
  attrs: DeltaAttributes,
  chunkSize: number,
): tf.Tensor[] {
  const chunks = cutDeltaChunks(inputs, attrs, chunkSize);
  const { queries, keys, values, decays, batch, heads, keyWidth, valueWidth, size, time } = chunks;
  const forward = advance(chunks, inputs.state);
  const dOut = toChunks(float32(inputs.dOutput), size);
  const scores = tf.mul<tf.Tensor3D>(tf.matMul(queries, keys, false, true), decays);
  const backward = sweepBack(chunks, inputs, dOut, tf.matMul(scores, dOut, true, false));
  const dErrors = backward.updates;
  const dValues = tf.mul<tf.Tensor3D>(dErrors, chunks.betas);

  const below = triangle(size, (i, j) => i > j);
  const dSystem = tf.mul<tf.Tensor3D>(tf.matMul(dErrors, forward.updates, false, true), tf.neg(below));
  const dScores = tf.mul<tf.Tensor3D>(tf.matMul(dOut, forward.updates, false, true), decays);
  const dQueries = tf.add<tf.Tensor3D>(
    tf.matMul(dScores, keys),
    tf.mul(tf.matMul(dOut, forward.before, false, true), chunks.fromStart),
  );
  const dKeys = keyGradient(chunks, forward, backward.before, { dValues, dSystem, dScores });
  const early = tf.mul<tf.Tensor3D>(keys, chunks.fromStart);
  const errors = tf.sub<tf.Tensor3D>(values, tf.matMul(early, forward.before));
  const dBetas = tf.add<tf.Tensor3D>(
    tf.sum(tf.mul(dErrors, errors), 2, true),
    tf.sum(tf.mul(dSystem, chunks.overlaps), 2, true),
  );
  // Not as the forward kernel gave it: what it is off by would not cancel.
  const finalState: tf.Tensor4D = tf.reshape(forward.last, [batch, heads, keyWidth, valueWidth]);
  const dSums = tf.sub<tf.Tensor2D>(tf.sum(tf.mul(queries, dQueries), 2), tf.sum(tf.mul(values, dValues), 2));
  return [
    fromChunks(tf.mul(dQueries, attrs.queryScale), chunks),
    fromChunks(tf.mul(dKeys, attrs.keyScale), chunks),
    fromChunks(dValues, chunks),
    decayGradient(dSums, chunks, { dFinalState: float32(inputs.dFinalState), finalState }),
    tf.reshape(fromChunks(dBetas, chunks), [batch, time, heads]),
    tf.reshape(backward.last, [batch, heads, keyWidth, valueWidth]),
  ];
}

/**
 * From the last chunk to the first: the gradients of the states after every chunk, dR, and the gradient of the first state.
 * @param within Pᵀ dO, [M, C, Dv]
 */
function sweepBack(
  chunks: DeltaChunks,
  { dFinalState }: DeltaGradientInputs,
  dOut: tf.Tensor3D,
  within: tf.Tensor3D,
): DeltaSweep {
  const { queries, keys, betas, inverse, fromStart, toEnd, count } = chunks;
  const early = tf.mul<tf.Tensor3D>(tf.mul(keys, fromStart), betas);
  const base: tf.Tensor3D = tf.matMul(tf.mul<tf.Tensor3D>(queries, fromStart), dOut, true, false);
  const step: DeltaStep = {
    given: tf.matMul(inverse, within, true, false),
    read: tf.matMul(inverse, tf.mul<tf.Tensor3D>(keys, toEnd), true, false),
    write: tf.neg<tf.Tensor3D>(early),
    base,
  };
  return sweep(chunks, step, dFinalState, range(count).reverse());
}

/** dK: through A, through P, through what is read of the state before and written to the state after. */
function keyGradient(
  { queries, keys, decays, betas, fromStart, toEnd }: DeltaChunks,
  { before, updates }: DeltaSweep,
  dEnds: tf.Tensor3D,
  { dValues, dSystem, dScores }: Readonly<Record<'dValues' | 'dSystem' | 'dScores', tf.Tensor3D>>,
): tf.Tensor3D {
  const dOverlaps = tf.mul<tf.Tensor3D>(tf.mul(dSystem, betas), decays);
  const read = tf.mul<tf.Tensor3D>(tf.matMul(dValues, before, false, true), fromStart);
  const terms: tf.Tensor3D[] = [
    tf.matMul(dOverlaps, keys),
    tf.matMul(dOverlaps, keys, true, false),
    tf.matMul(dScores, queries, true, false),
    tf.mul(tf.matMul(updates, dEnds, false, true), toEnd),
    tf.neg(read),
  ];
  return tf.addN(terms);
}
