/** Rows of a matrix by index: the token embedding, and positions picked from a sequence. */
import * as tf from '../../tf.js';
import { differentiable, runKernel } from '../dispatch.js';
import { limits } from '../limits.js';
import { asRows, sliceAxis } from '../reshape.js';

/**
 * @param weight [V, D]
 * @param ids int32, any shape, each in 0..V-1
 * @returns scale * weight[ids], [...ids, D]
 */
export function embedding(weight: tf.Tensor, ids: tf.Tensor, scale = 1): tf.Tensor {
  const [vocabSize] = weight.shape as [number, number];
  const [y] = differentiable({
    inputs: { weight },
    forward: (save) => {
      save([ids]);
      return [embeddingRows(weight, ids, scale)];
    },
    backward: ([dy], [ids]) => ({
      weight: embeddingGradient(dy as tf.Tensor, ids as tf.Tensor, vocabSize, scale),
    }),
  });
  return y as tf.Tensor;
}

/** The forward step alone: no gradient is recorded. */
export function embeddingRows(weight: tf.Tensor, ids: tf.Tensor, scale: number): tf.Tensor {
  const [y] = runKernel('Embedding', { weight, ids }, { scale }, () => {
    const rows = tf.gather(weight, ids);
    return [scale === 1 ? rows : tf.mul(rows, scale)];
  });
  return y as tf.Tensor;
}

/**
 * dWeight [V, D] of embedded rows dy [..., D]. Composed as one-hot(ids)ᵀ dy, in blocks of rows: a matrix product is
 * what every backend has in fast form.
 */
export function embeddingGradient(
  dy: tf.Tensor,
  ids: tf.Tensor,
  vocabSize: number,
  scale: number,
): tf.Tensor {
  const [dWeight] = runKernel('EmbeddingGrad', { dy, ids }, { scale, vocabSize }, () => {
    const rows = asRows(dy);
    const flat = tf.reshape<tf.Rank.R1>(ids, [-1]);
    const [count, width] = rows.shape;
    const block = Math.max(1, Math.floor(limits.oneHotElements / vocabSize));
    let sum: tf.Tensor = tf.zeros([vocabSize, width]);
    for (let start = 0; start < count; start += block) {
      const length = Math.min(block, count - start);
      const next = tf.tidy(() => {
        const oneHot = tf.oneHot(sliceAxis(flat, 0, start, length), vocabSize, 1, 0, 'float32');
        return tf.add(sum, tf.matMul(oneHot as tf.Tensor2D, sliceAxis(rows, 0, start, length), true));
      });
      sum.dispose();
      sum = next;
    }
    return [scale === 1 ? sum : tf.mul(sum, scale)];
  });
  return dWeight as tf.Tensor;
}
