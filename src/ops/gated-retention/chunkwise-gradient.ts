/**
 * The gradient of gated retention, chunk by chunk. The states before the chunks are computed again going forward; the
 * gradients of the states after them follow going backward, by the transposed recurrence.
 *
 * With G the cumulative sum of logDecay over the whole sequence, position t enters as exp(G_t) through its query and exp(-G_t)
 * through its key, so that dL/dG_t = q_t · dq_t - k_t · dk_t, plus <dS_T, S_T> at the last position; dlogDecay is its
 * sum over all later positions (Yang et al., gated linear attention, arXiv 2312.06635, appendix).
 */
import * as tf from '../../tf.js';
import {
  cutChunks,
  fromChunks,
  range,
  scan,
  scanStates,
  stateRows,
  toChunks,
  triangle,
  type Chunks,
} from './chunks.js';
import type { RetentionInputs } from './gated-retention.js';
import { withOwnKeys } from './groups.js';

export interface RetentionGradientInputs extends RetentionInputs {
  /** [B, T, H, Dv] */
  readonly dOutput: tf.Tensor4D;
  /** [B, H, Dk, Dv] */
  readonly dFinalState: tf.Tensor4D;
  readonly finalState: tf.Tensor4D;
  readonly [name: string]: tf.Tensor | undefined;
}

/** Outputs: dq, dk, dv, dLogDecay, dState; dq and dk of every head of the values. */
export function composeChunkwiseGradient(shared: RetentionGradientInputs, chunkSize: number): tf.Tensor[] {
  const inputs = withOwnKeys(shared);
  const chunks = cutChunks(inputs, chunkSize);
  const { queries, keys, values, decays, fromStart, toEnd, batch, heads, count, keyWidth, valueWidth } =
    chunks;
  const dOut = toChunks(inputs.dOutput, chunks.size);
  const [states] = scanStates(chunks, inputs.state);

  const intoStart = tf.matMul(tf.mul<tf.Tensor3D>(queries, fromStart), dOut, true, false);
  const updates = tf.reshape<tf.Rank.R3>(intoStart, [batch * heads, count, keyWidth * valueWidth]);
  const final = stateRows(chunks, inputs.dFinalState);
  const [ends, dInitial] = scan(updates, chunks.across, final, range(count).reverse());
  const dEnds = tf.reshape<tf.Rank.R3>(ends, [batch * heads * count, keyWidth, valueWidth]);

  const scores = tf.mul<tf.Tensor3D>(tf.matMul(queries, keys, false, true), decays);
  const dScores = tf.mul<tf.Tensor3D>(tf.matMul(dOut, values, false, true), decays);
  const dQueries = tf.add<tf.Tensor3D>(
    tf.matMul(dScores, keys),
    tf.mul(tf.matMul(dOut, states, false, true), fromStart),
  );
  const dKeys = tf.add<tf.Tensor3D>(
    tf.matMul(dScores, queries, true, false),
    tf.mul(tf.matMul(values, dEnds, false, true), toEnd),
  );
  const dValues = tf.add<tf.Tensor3D>(
    tf.matMul(scores, dOut, true, false),
    tf.matMul(tf.mul<tf.Tensor3D>(keys, toEnd), dEnds),
  );
  const dSums = tf.sub<tf.Tensor3D>(tf.mul(queries, dQueries), tf.mul(keys, dKeys));
  return [
    fromChunks(dQueries, chunks),
    fromChunks(tf.mul(dKeys, keyWidth ** -0.5), chunks),
    fromChunks(dValues, chunks),
    decayGradient(tf.sum(dSums, 2), chunks, inputs),
    tf.reshape(dInitial, [batch, heads, keyWidth, valueWidth]),
  ];
}

/** From dL/dG [M, C] to dLogDecay [B, T, H]: sums over all later positions of the sequence. */
export function decayGradient(
  dSums: tf.Tensor2D,
  chunks: Chunks,
  inputs: { readonly dFinalState: tf.Tensor4D; readonly finalState: tf.Tensor4D },
): tf.Tensor {
  const { batch, heads, count, size, time } = chunks;
  const inChunk = tf.matMul(
    dSums,
    triangle(size, (i, j) => i >= j),
  );
  const chunkSums = tf.reshape(tf.sum(dSums, 1), [batch * heads, count]);
  const later = tf.reshape(tf.cumsum(chunkSums, 1, true, true), [batch * heads, count, 1]);
  const atEnd = tf.sum(tf.mul(inputs.dFinalState, inputs.finalState), [2, 3]);
  const whole = tf.add(later, tf.reshape(atEnd, [batch * heads, 1, 1]));
  const gradient = tf.add<tf.Tensor3D>(tf.reshape(inChunk, [batch * heads, count, size]), whole);
  return tf.reshape(fromChunks(tf.reshape(gradient, [-1, size, 1]), chunks), [batch, time, heads]);
}
