/** The definition of the gated delta rule, one position after the other, in plain tfjs ops that differentiate themselves. */
import * as tf from '../../tf.js';
import type { DeltaAttributes } from '../kernels.js';
import type { DeltaInputs, DeltaResult } from './gated-delta-rule.js';

export function recurrentDelta(
  { q, k, v, logDecay, beta, state }: DeltaInputs,
  { queryScale, keyScale }: DeltaAttributes,
): DeltaResult {
  const [batch, time, heads, keyWidth] = q.shape;
  const valueWidth = v.shape[3];
  const at = (x: tf.Tensor4D, t: number, rows: number, columns: number): tf.Tensor4D =>
    tf.reshape(tf.slice(x, [0, t, 0, 0], [batch, 1, heads, x.shape[3]]), [batch, heads, rows, columns]);
  const queries = tf.mul<tf.Tensor4D>(q, queryScale);
  const keys = tf.mul<tf.Tensor4D>(k, keyScale);
  const decays = tf.expandDims<tf.Tensor4D>(tf.exp(logDecay), 3);
  const strengths = tf.expandDims<tf.Tensor4D>(beta, 3);
  let current = state ?? tf.zeros<tf.Rank.R4>([batch, heads, keyWidth, valueWidth]);
  const outputs: tf.Tensor4D[] = [];
  for (let t = 0; t < time; t++) {
    const faded = tf.mul<tf.Tensor4D>(current, at(decays, t, 1, 1));
    const error = tf.sub(at(v, t, 1, valueWidth), tf.matMul(at(keys, t, 1, keyWidth), faded));
    const update = tf.mul(at(keys, t, keyWidth, 1), tf.mul(error, at(strengths, t, 1, 1)));
    current = tf.add(faded, update);
    outputs.push(tf.matMul(at(queries, t, 1, keyWidth), current));
  }
  return { output: tf.transpose(tf.concat(outputs, 2), [0, 2, 1, 3]), state: current };
}
