/**
 * Output head and cross-entropy in one step: logits exist for a block of rows at a time only, forward and backward. The
 * gradient of the logits is softmax - one-hot; the one-hot part is a row of the weight (dx) or a sum of rows of x
 * (dWeight), so that no one-hot matrix is needed.
 */
import * as tf from '../../tf.js';
import { differentiable, runKernel } from '../dispatch.js';
import { limits } from '../limits.js';
import { sliceAxis } from '../reshape.js';
import { embeddingGradient, embeddingRows } from '../embedding/embedding.js';

/**
 * @param x [N, D]
 * @param weight [V, D]
 * @param targets int32 [N]
 * @returns loss in nats, [N]
 */
export function linearCrossEntropy(x: tf.Tensor2D, weight: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor1D {
  const [loss] = differentiable({
    inputs: { x, weight },
    forward: (save) => {
      const [loss, logSumExp] = runKernel('LinearCrossEntropy', { x, weight, targets }, {}, () =>
        compose(x, weight, targets),
      ) as [tf.Tensor, tf.Tensor];
      save([x, weight, targets, logSumExp]);
      return [loss];
    },
    backward: ([dy], saved) => {
      const [x, weight, targets, logSumExp] = saved as [tf.Tensor2D, tf.Tensor2D, tf.Tensor1D, tf.Tensor1D];
      const inputs: LossRows = { dy: dy as tf.Tensor1D, x, weight, targets, logSumExp };
      const [dx, dWeight] = runKernel('LinearCrossEntropyGrad', inputs, {}, () =>
        composeGradient(inputs),
      ) as [tf.Tensor, tf.Tensor];
      return { x: dx, weight: dWeight };
    },
  });
  return loss as tf.Tensor1D;
}

interface LossRows {
  readonly dy: tf.Tensor1D;
  readonly x: tf.Tensor2D;
  readonly weight: tf.Tensor2D;
  readonly targets: tf.Tensor1D;
  readonly logSumExp: tf.Tensor1D;
}

/** Runs of rows, as [start, length]. */
function rowBlocks(rows: number, vocabSize: number): [number, number][] {
  const most = Math.max(1, Math.floor(limits.logitElements / vocabSize));
  const blocks: [number, number][] = [];
  for (let start = 0; start < rows; start += most) blocks.push([start, Math.min(most, rows - start)]);
  return blocks;
}

function compose(x: tf.Tensor2D, weight: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor[] {
  const parts = rowBlocks(x.shape[0], weight.shape[0]).map(([start, length]) =>
    tf.tidy((): [tf.Tensor, tf.Tensor] => {
      const rows = sliceAxis(x, 0, start, length);
      const logSumExp = tf.logSumExp(tf.matMul(rows, weight, false, true), 1);
      const targetRows = embeddingRows(weight, sliceAxis(targets, 0, start, length), 1);
      return [tf.sub(logSumExp, tf.sum(tf.mul(rows, targetRows), 1)), logSumExp];
    }),
  );
  return [tf.concat(parts.map(([loss]) => loss)), tf.concat(parts.map(([, logSumExp]) => logSumExp))];
}

function composeGradient({ dy, x, weight, targets, logSumExp }: LossRows): tf.Tensor[] {
  const [vocabSize] = weight.shape;
  const scale = tf.expandDims(dy, 1);
  let dWeight: tf.Tensor = tf.neg(embeddingGradient(tf.mul(x, scale), targets, vocabSize, 1));
  const dRows: tf.Tensor[] = [];
  for (const [start, length] of rowBlocks(x.shape[0], vocabSize)) {
    const before = dWeight;
    const [dx, sum] = tf.tidy((): [tf.Tensor, tf.Tensor] => {
      const rows = sliceAxis(x, 0, start, length);
      const logits = tf.matMul(rows, weight, false, true);
      const probabilities = tf.exp(tf.sub(logits, tf.expandDims(sliceAxis(logSumExp, 0, start, length), 1)));
      const dLogits = tf.mul<tf.Tensor2D>(probabilities, sliceAxis(scale, 0, start, length));
      return [tf.matMul(dLogits, weight), tf.add(before, tf.matMul(dLogits, rows, true, false))];
    });
    before.dispose();
    dRows.push(dx);
    dWeight = sum;
  }
  const ofTargets = tf.mul(embeddingRows(weight, targets, 1), scale);
  return [tf.sub(tf.concat(dRows), ofTargets), dWeight];
}
