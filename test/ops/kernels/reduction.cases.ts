/** Standard tfjs kernels that add up: matmul, reductions, softmax. */
import * as tf from '../../../src/tf.js';
import type { KernelCase } from './contract.js';

/** [a, b, transposeA, transposeB] */
const MATMULS: readonly (readonly [number[], number[], boolean, boolean])[] = [
  [[37, 53], [53, 41], false, false],
  [[53, 37], [41, 53], true, true],
  [[1, 5, 3], [1, 7, 3], false, true],
  [[5, 37, 53], [5, 53, 41], false, false],
  [[5, 53, 37], [1, 41, 53], true, true],
  [[2, 64, 40], [1, 40, 96], false, false],
  [[3, 129, 257], [1, 257, 65], false, false],
  [[3, 257, 129], [1, 257, 65], true, false],
  [[2, 3, 9, 31], [31, 43], false, false],
  [[1, 9, 31], [6, 31, 43], false, false],
]; // prettier-ignore

const PRODUCTS: readonly KernelCase[] = MATMULS.map(([a, b, transposeA, transposeB]) => ({
  name: `matMul, ${a.join('x')}${transposeA ? 'ᵀ' : ''} with ${b.join('x')}${transposeB ? 'ᵀ' : ''}`,
  inputs: (make) => [make.normal(a), make.normal(b)],
  compute: (x, y) => [tf.matMul(x, y, transposeA, transposeB)],
  // tfjs has no gradient of a matrix that is broadcast over a batch.
  gradients: a.slice(0, -2).join() === b.slice(0, -2).join(),
}));

/** A batch dimension of 1 between others, in products that are worth a kernel of an engine and in smaller ones. */
const MIDDLES = [
  [[2, 1, 9, 31], [2, 3, 43, 31]],
  [[2, 1, 2, 3], [2, 3, 1, 3]],
  [[3, 2, 4, 9, 31], [2, 1, 43, 31]],
  [[1, 2, 1, 5], [3, 1, 2, 5]],
] as const; // prettier-ignore

const BROADCASTS: readonly KernelCase[] = MIDDLES.map(([a, b]) => ({
  name: `matMul broadcasts a dimension in the middle, ${a.join('x')} with ${b.join('x')}`,
  inputs: (make) => [make.normal([...a]), make.normal([...b])],
  compute: (x, y) => [tf.matMul(x, y, false, true)],
}));

const AXES: readonly (readonly number[] | undefined)[] = [
  undefined, [0], [1], [2], [4], [0, 1], [0, 4], [1, 3], [1, 4], [-1, -2], [0, 1, 2, 3, 4],
]; // prettier-ignore

const REDUCTIONS: readonly KernelCase[] = AXES.map((axes) => {
  const over = axes && [...axes];
  return {
    name: `reductions over ${axes?.join() ?? 'all axes'}`,
    inputs: (make) => [make.normal([3, 17, 1, 5, 19], 1, 0.5)],
    compute: (x) => [
      tf.sum(x, over), tf.sum(x, over, true), tf.mean(x, over, true), tf.max(x, over), tf.min(x, over),
    ], // prettier-ignore
  };
});

const ROWS: readonly KernelCase[] = [
  {
    name: 'softmax and its kin over rows',
    inputs: (make) => [make.normal([5, 3001], 4), make.normal([7, 9, 65], 10)],
    compute: (x, y) => [tf.softmax(x), tf.logSoftmax(x), tf.softmax(y), tf.logSumExp(x, 1)],
  },
  {
    name: 'softmax takes -Infinity as a mask',
    inputs: (make) => [make.normal([40, 60])],
    compute: (x) => {
      const masked = tf.where(tf.greater(x, 0), tf.fill([40, 60], -Infinity), x);
      return [tf.exp(masked), tf.softmax(masked)];
    },
    except: { webgpu: 'shaders need not keep infinities' },
  },
  {
    name: 'softmax of logits from -100 to 100',
    inputs: (make) => [make.normal([20, 300], 40)],
    compute: (x) => [tf.softmax(x), tf.logSoftmax(x)],
    gradients: true,
  },
  {
    name: 'places of the largest and the smallest, top-k',
    inputs: (make) => [make.normal([30, 50], 8)],
    compute: (x) => [tf.argMax(x, 1), tf.argMin(x, 0), tf.topk(x, 3).indices],
    exact: true,
  },
  ...[200_003, 262_144].map((extent): KernelCase => ({
    name: `rows of ${extent}`,
    inputs: (make) => [make.normal([3, extent], 1, 0.5)],
    compute: (x) => [tf.sum(x), tf.mean(x, 1), tf.max(x, 1), tf.min(x), tf.argMax(x, 1), tf.argMin(x, 1)],
    except: { webgpu: 'of equal largest values tfjs does not name the first' },
  })),
  {
    name: 'cumulative sums',
    inputs: (make) => [make.normal([30, 90], 0.1)],
    compute: (x) => [tf.cumsum(x, 1), tf.cumsum(x, 0, true), tf.cumsum(x, 1, false, true)],
  },
  {
    name: 'reductions of integers',
    inputs: (make) => [make.integers([12, 13], 100)],
    compute: (n) => [tf.sum(n, 0), tf.max(n, 1), tf.sum(n)],
    exact: true,
  },
  {
    name: 'gradients of a small network',
    inputs: (make) => [make.normal([6 * 4 * 8, 20]), make.normal([33, 20]), make.normal([33])],
    compute: (x, w, b) => {
      const hidden = tf.add(tf.matMul(x, w, false, true), b);
      const gated = tf.mul(tf.sigmoid(hidden), tf.tanh(hidden)).reshape([6, 4, 8, 33]);
      const mixed = tf.softmax(tf.transpose(gated, [0, 2, 1, 3]));
      return [tf.slice(mixed, [0, 0, 1], [-1, -1, 2])];
    },
    gradients: true,
    tolerance: { bfloat16: 2e-2, float16: 4e-3 },
  },
  {
    name: 'gradient of rows gathered more than once',
    inputs: (make) => [make.normal([5, 6])],
    compute: (w) => [tf.gather(w, tf.tensor1d([1, 3, 3, 0], 'int32'))],
    gradients: true,
  },
];

export const REDUCTION_CASES: readonly KernelCase[] = [...PRODUCTS, ...BROADCASTS, ...REDUCTIONS, ...ROWS];
