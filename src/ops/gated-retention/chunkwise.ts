/**
 * The chunkwise form composed of batched matrix products: inside a chunk the parallel form, between chunks the state.
 * All chunks are computed side by side; only the states, which are small, follow one another.
 */
import * as tf from '../../tf.js';
import { cutChunks, fromChunks, scanStates } from './chunks.js';
import type { RetentionInputs } from './gated-retention.js';
import { withOwnKeys } from './groups.js';

/** Outputs: output [B, T, H, Dv] and the last state [B, H, Dk, Dv]. */
export function composeChunkwise(shared: RetentionInputs, chunkSize: number): tf.Tensor[] {
  const inputs = withOwnKeys(shared);
  if (inputs.q.shape[1] === 1) return composeStep(inputs);
  const chunks = cutChunks(inputs, chunkSize);
  const { queries, keys, values, decays, fromStart } = chunks;
  const [states, last] = scanStates(chunks, inputs.state);
  const scores = tf.mul<tf.Tensor3D>(tf.matMul(queries, keys, false, true), decays);
  const within: tf.Tensor3D = tf.matMul(scores, values);
  if (chunks.count === 1 && !inputs.state) return [fromChunks(within, chunks), last];
  const carried = tf.matMul(tf.mul<tf.Tensor3D>(queries, fromStart), states);
  return [fromChunks(tf.add(within, carried), chunks), last];
}

/** A single position: the recurrence itself. */
function composeStep({ q, k, v, logDecay, state }: RetentionInputs): tf.Tensor[] {
  const [batch, , heads, keyWidth] = q.shape;
  const valueWidth = v.shape[3];
  const column = tf.reshape(tf.mul(k, keyWidth ** -0.5), [batch, heads, keyWidth, 1]);
  const update = tf.mul(column, tf.reshape(v, [batch, heads, 1, valueWidth]));
  const decay = tf.reshape(tf.exp(logDecay), [batch, heads, 1, 1]);
  const next = state ? tf.add<tf.Tensor4D>(tf.mul(state, decay), update) : (update as tf.Tensor4D);
  const output = tf.matMul(tf.reshape<tf.Rank.R4>(q, [batch, heads, 1, keyWidth]), next);
  return [tf.reshape(output, [batch, 1, heads, valueWidth]), next];
}
