/** Cross-entropy from logits and from hidden states. */
import { crossEntropy, linearCrossEntropy, weightedCrossEntropy } from '../../../src/ops/index.js';
import { limits } from '../../../src/ops/limits.js';
import * as tf from '../../../src/tf.js';
import * as reference from '../reference.js';
import type { KernelCase } from './contract.js';

type T1 = tf.Tensor1D;
type T2 = tf.Tensor2D;

const targetsOf = (rows: number, vocabulary: number): Int32Array =>
  Int32Array.from({ length: rows }, (_, i) => (i * 7919) % vocabulary);

/** [rows, vocabulary, scale of the logits]; the last are far from each other. */
const LOGITS = [[1, 2, 1], [37, 50, 3], [5, 3001, 3], [37, 501, 3], [9, 40, 20], [6, 300, 60]] as const; // prettier-ignore

const FROM_LOGITS: readonly KernelCase[] = LOGITS.map(([rows, vocabulary, scale]) => {
  const targets = targetsOf(rows, vocabulary);
  return {
    name: `crossEntropy, ${rows}x${vocabulary}, logits of ${scale}`,
    inputs: (make) => [make.normal([rows, vocabulary], scale)],
    compute: (logits) => [crossEntropy(logits as T2, tf.tensor1d(targets, 'int32'))],
    reference: (logits) => [reference.crossEntropy(logits, targets)],
    gradients: true,
  };
});

/** With fewer logits at once than there are rows. */
function inBlocks<T>(logitElements: number | undefined, work: () => T): T {
  const usual = limits.logitElements;
  limits.logitElements = logitElements ?? usual;
  try {
    return work();
  } finally {
    limits.logitElements = usual;
  }
}

/** [rows, width, vocabulary, logits at once]: few words and many, logits of training in float32 and in storage. */
const LINEAR = [[1, 1, 2], [37, 9, 50], [37, 9, 50, 500], [37, 40, 501], [37, 40, 5001]] as const; // prettier-ignore

/** tfjs adds up rows of WebGPU in whatever order they come. */
const UNORDERED = { except: { webgpu: 'a second run differs in the last bits' } } as const;

const FROM_STATES: readonly KernelCase[] = LINEAR.flatMap(
  ([rows, width, vocabulary, atOnce]): KernelCase[] => {
    const targets = targetsOf(rows, vocabulary);
    const sizes = `${rows}x${width}x${vocabulary}${atOnce ? `, ${atOnce} at once` : ''}`;
    return [
      {
        name: `linearCrossEntropy, ${sizes}`,
        inputs: (make) => [make.normal([rows, width]), make.normal([vocabulary, width], 0.5)],
        compute: (x, weight) =>
          inBlocks(atOnce, () => [linearCrossEntropy(x as T2, weight as T2, tf.tensor1d(targets, 'int32'))]),
        reference: (x, weight) => [reference.crossEntropy(reference.linear(x, weight), targets)],
        gradients: true,
        ...(vocabulary > 5000 && UNORDERED),
      },
      {
        name: `weightedCrossEntropy and its gradients, ${sizes}`,
        inputs: (make) => [
          make.normal([rows, width]),
          make.normal([vocabulary, width], 0.5),
          make.normal([rows]),
        ],
        compute: (...[x, weight, factors]) =>
          inBlocks(atOnce, () => {
            const total = (x: tf.Tensor, weight: tf.Tensor): tf.Scalar =>
              weightedCrossEntropy(x as T2, weight as T2, tf.tensor1d(targets, 'int32'), factors as T1).total;
            const { value, grads } = tf.valueAndGrads(total)([x as T2, weight as T2], tf.scalar(1.5));
            return [value, ...grads];
          }),
        ...(vocabulary > 5000 && UNORDERED),
      },
    ];
  },
);

export const LOSS_CASES: readonly KernelCase[] = [...FROM_LOGITS, ...FROM_STATES];
