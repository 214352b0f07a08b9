/** The two defining forms of gated retention, in plain tfjs ops that differentiate themselves. */
import * as tf from '../../tf.js';
import { LEAST_LOG_DECAY } from './chunks.js';
import type { RetentionInputs, RetentionResult } from './gated-retention.js';
import { withOwnKeys } from './groups.js';

const headsFirst = (x: tf.Tensor4D): tf.Tensor4D => tf.transpose(x, [0, 2, 1, 3]);

/** One position after the other, as the recurrence is written. */
export function recurrentForm(inputs: RetentionInputs): RetentionResult {
  const { q, k, v, logDecay, state } = withOwnKeys(inputs);
  const [batch, time, heads, keyWidth] = q.shape;
  const valueWidth = v.shape[3];
  const at = (x: tf.Tensor4D, t: number, shape: tf.ShapeMap['R4']): tf.Tensor4D =>
    tf.reshape(tf.slice(x, [0, t, 0, 0], [batch, 1, heads, x.shape[3]]), shape);
  const scaled = tf.mul<tf.Tensor4D>(k, keyWidth ** -0.5);
  const decay = tf.expandDims<tf.Tensor4D>(tf.exp(logDecay), 3);
  let current = state ?? tf.zeros<tf.Rank.R4>([batch, heads, keyWidth, valueWidth]);
  const outputs: tf.Tensor[] = [];
  for (let t = 0; t < time; t++) {
    const column = at(scaled, t, [batch, heads, keyWidth, 1]);
    const row = at(v, t, [batch, heads, 1, valueWidth]);
    current = tf.add(tf.mul(current, at(decay, t, [batch, heads, 1, 1])), tf.mul(column, row));
    outputs.push(tf.matMul(at(q, t, [batch, heads, 1, keyWidth]), current));
  }
  return { output: headsFirst(tf.concat(outputs, 2) as tf.Tensor4D), state: current };
}

/**
 * All positions at once: with G the cumulative sum of logDecay, output = (q kᵀ ∘ exp(G_i - G_j) [i >= j]) v + exp(G) q S_0
 * and the last state is the sum of exp(G_T - G_j) k_jᵀ v_j and exp(G_T) S_0.
 */
export function parallelForm(inputs: RetentionInputs): RetentionResult {
  const { q, k, v, logDecay, state } = withOwnKeys(inputs);
  const [batch, time, heads, keyWidth] = q.shape;
  const [queries, keys, values] = [
    headsFirst(q),
    tf.mul<tf.Tensor4D>(headsFirst(k), keyWidth ** -0.5),
    headsFirst(v),
  ];
  const finite = tf.maximum<tf.Tensor3D>(logDecay, LEAST_LOG_DECAY);
  const sums = tf.reshape(tf.cumsum(tf.transpose(finite, [0, 2, 1]), 2), [batch, heads, time, 1]);
  const before = tf.sub(sums, tf.transpose(sums, [0, 1, 3, 2]));
  const causal = tf.linalg.bandPart(tf.ones([time, time]), -1, 0);
  // Pairs in the future are set to 0 before the exponential, which could overflow there, and masked after it.
  const decays = tf.mul(tf.exp(tf.mul(before, causal)), causal);
  const scores = tf.mul<tf.Tensor4D>(tf.matMul(queries, keys, false, true), decays);
  const total = tf.slice(sums, [0, 0, time - 1, 0], [batch, heads, 1, 1]);
  const faded = tf.mul<tf.Tensor4D>(keys, tf.exp(tf.sub(total, sums)));
  let output: tf.Tensor4D = tf.matMul(scores, values);
  let last: tf.Tensor4D = tf.matMul(faded, values, true, false);
  if (state) {
    output = tf.add(output, tf.matMul(tf.mul<tf.Tensor4D>(queries, tf.exp(sums)), state));
    last = tf.add(last, tf.mul(state, tf.exp(total)));
  }
  return { output: headsFirst(output), state: last };
}
