/** The gates of a gated delta layer from their logits, in float32 whatever the storage. */
import * as tf from '../../tf.js';
import { differentiable, runKernel } from '../dispatch.js';

export interface DeltaGateInputs {
  /** Logits of the decay, [B, T, H]. */
  readonly a: tf.Tensor3D;
  /** Logits of the strength, [B, T, H]. */
  readonly b: tf.Tensor3D;
  /** Logarithm of the rate at which a head forgets, [H]. */
  readonly aLog: tf.Tensor1D;
  /** Added to `a`, [H]. */
  readonly dtBias: tf.Tensor1D;
}

export interface DeltaGates {
  /** -exp(aLog) softplus(a + dtBias), [B, T, H]. */
  readonly logDecay: tf.Tensor3D;
  /** sigmoid(b), [B, T, H]. */
  readonly beta: tf.Tensor3D;
}

/** As in Mamba-2 and Gated DeltaNet. */
export function deltaGates({ a, b, aLog, dtBias }: DeltaGateInputs): DeltaGates {
  const inputs = { a, b, aLog, dtBias };
  const [logDecay, beta] = differentiable({
    inputs,
    forward: (save) => {
      save([a, b, aLog, dtBias]);
      return runKernel('DeltaGates', inputs, {}, () => {
        const logits = tf.add<tf.Tensor3D>(a, dtBias);
        return [tf.neg(tf.mul(softplus(logits), tf.exp(aLog))), tf.sigmoid(b)];
      });
    },
    backward: ([dLogDecay, dBeta], saved) => {
      const [a, b, aLog, dtBias] = saved as [tf.Tensor3D, tf.Tensor3D, tf.Tensor1D, tf.Tensor1D];
      const all = { a, b, aLog, dtBias, dLogDecay: dLogDecay as tf.Tensor3D, dBeta: dBeta as tf.Tensor3D };
      const [da, db, dALog, dDtBias] = runKernel('DeltaGatesGrad', all, {}, () => gradient(all));
      return { a: da, b: db, aLog: dALog, dtBias: dDtBias } as Record<string, tf.Tensor>;
    },
  });
  return { logDecay: logDecay as tf.Tensor3D, beta: beta as tf.Tensor3D };
}

/** log(1 + exp(x)), which neither overflows nor loses digits. */
function softplus(x: tf.Tensor3D): tf.Tensor3D {
  return tf.add<tf.Tensor3D>(tf.relu(x), tf.log1p(tf.exp(tf.neg(tf.abs(x)))));
}

/** Outputs da, db, dALog, dDtBias. */
function gradient({
  a,
  b,
  aLog,
  dtBias,
  dLogDecay,
  dBeta,
}: DeltaGateInputs & { dLogDecay: tf.Tensor3D; dBeta: tf.Tensor3D }): tf.Tensor[] {
  const logits = tf.add<tf.Tensor3D>(a, dtBias);
  const scaled: tf.Tensor3D = tf.neg(tf.mul<tf.Tensor3D>(dLogDecay, tf.exp(aLog)));
  const da = tf.mul<tf.Tensor3D>(scaled, tf.sigmoid(logits));
  const slope = tf.mul<tf.Tensor3D>(tf.sigmoid(b), tf.sigmoid(tf.neg(b)));
  const db = tf.mul(dBeta, slope);
  return [da, db, tf.sum(tf.mul(scaled, softplus(logits)), [0, 1]), tf.sum(da, [0, 1])];
}
