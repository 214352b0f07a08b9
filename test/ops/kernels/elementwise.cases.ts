/** Standard tfjs kernels that handle one element at a time, and what happens at the ends of their ranges. */
import { logDecay, swiglu } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import type { Array64 } from '../reference.js';
import { type Computation, type KernelCase, floats } from './contract.js';

/** Shapes that broadcast in every way: rows, columns, both, scalars, repeats in the middle. */
const BROADCASTS: readonly (readonly [number[], number[]])[] = [
  [[33, 65], [33, 65]],
  [[33, 65], [65]],
  [[33, 65], [33, 1]],
  [[33, 65], []],
  [[], [9]],
  [[1, 65], [33, 1]],
  [[3, 1, 7], [5, 1]],
  [[3, 1, 5, 129], [7, 1, 129]],
  [[2, 9, 1, 130], [2, 1, 4, 130]],
  [[2, 1, 3, 1, 5], [4, 1, 6, 1]],
]; // prettier-ignore

const ARITHMETIC: readonly KernelCase[] = BROADCASTS.map(([left, right]) => ({
  name: `arithmetic, [${left.join()}] with [${right.join()}]`,
  inputs: (make) => [make.normal(left), make.normal(right, 0.5, 3)],
  compute: (a, b) => [
    tf.add(a, b), tf.sub(a, b), tf.mul(a, b), tf.div(a, b), tf.maximum(a, b), tf.minimum(a, b), tf.squaredDifference(a, b),
    tf.pow(tf.abs(a), b), tf.mod(a, b),
  ], // prettier-ignore
}));

const COMPARISONS: readonly KernelCase[] = BROADCASTS.map(([left, right]) => ({
  name: `comparisons, [${left.join()}] with [${right.join()}]`,
  inputs: (make) => [make.normal(left), make.normal(right)],
  compute: (a, b) =>
    [tf.greater, tf.greaterEqual, tf.less, tf.lessEqual, tf.equal, tf.notEqual].map((compare) =>
      tf.cast(compare(a, b), 'float32'),
    ),
  exact: true,
}));

/** Every integer from -100 to 100, more than a kernel leaves to tfjs. */
const ENDS = floats([10, 201], (i) => (i % 201) - 100);

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

/** A function of one argument and, where given, its derivative, each value held to its own size from -100 to 100. */
function atTheEnds(
  name: string,
  compute: (x: tf.Tensor) => tf.Tensor,
  value: (x: number) => number,
  slope?: (x: number) => number,
  options: Partial<KernelCase> = {},
): KernelCase {
  const of = ({ shape, data }: Array64, f: (x: number) => number): Array64 => ({ shape, data: data.map(f) });
  return {
    name: `${name} from -100 to 100`,
    inputs: () => [ENDS],
    compute: (x) => [compute(x), ...(slope ? [tf.grad((x: tf.Tensor) => tf.sum(compute(x)))(x)] : [])],
    reference: (x) => [of(x, value), ...(slope ? [of(x, slope)] : [])],
    elementwise: true,
    // Fast exponentials of GPUs are off by a unit in the last place for every unit of the exponent.
    tolerance: { float32: 5e-5 },
    ...options,
  };
}

/** tfjs' own kernel is log(1 + exp(x)), and so are its ends on WebGPU. */
const NO_LOG1P = { except: { webgpu: 'tfjs computes log(1 + exp(x))' } };

const SATURATED: readonly KernelCase[] = [
  atTheEnds('sigmoid', (x) => tf.sigmoid(x), sigmoid),
  atTheEnds('softplus', (x) => tf.softplus(x), softplus, sigmoid, NO_LOG1P),
  atTheEnds('logSigmoid', (x) => tf.logSigmoid(x), (x) => -softplus(-x), (x) => sigmoid(-x), NO_LOG1P),
  atTheEnds('logDecay', (x) => logDecay(x, 16), (x) => -softplus(-x) / 16, (x) => sigmoid(-x) / 16, NO_LOG1P),
  atTheEnds('silu', (x) => swiglu(x, tf.onesLike(x)), (x) => x * sigmoid(x), (x) => sigmoid(x) * (1 + x * sigmoid(-x))),
  atTheEnds('the linear factor of SwiGLU', (x) => {
    const slope = tf.grad((b: tf.Tensor) => tf.sum(swiglu(x, b)));
    return slope(tf.onesLike(x));
  }, (x) => x * sigmoid(x)),
  atTheEnds('tanh', (x) => tf.tanh(x), Math.tanh),
]; // prettier-ignore

/** Infinities and NaN, each 300 times. */
const SPECIAL = floats([3, 300], (i) => [Infinity, -Infinity, NaN][Math.floor(i / 300)] ?? 0);
const special = (name: string, compute: Computation): KernelCase => ({
  name: `${name} of infinities and NaN`,
  inputs: () => [SPECIAL],
  compute,
  elementwise: true,
});

const NOT_FINITE: readonly KernelCase[] = [
  special('functions of one argument', (x) => [tf.exp(x), tf.neg(x), tf.square(x), tf.abs(x)]),
  special('limits', (x) => [
    tf.maximum(x, -104),
    tf.minimum(x, 3),
    tf.relu(x),
    tf.clipByValue(x, -1, 1),
    tf.max(x),
    tf.max(x, 1),
    tf.min(x, 1),
  ]),
  special('sigmoid', (x) => [tf.sigmoid(x), tf.grad((x: tf.Tensor) => tf.sum(logDecay(x, 1)))(x)]),
  special('logDecay', (x) => [logDecay(x, 16)]),
].map((item) => ({ ...item, except: { webgpu: 'shaders need not keep infinities and NaN' } }));

const OTHERS: readonly KernelCase[] = [
  {
    name: 'constants on either side',
    inputs: (make) => [make.normal([2001], 1, 2)],
    compute: (a) => [
      tf.add(a, 1.5), tf.sub(2, a), tf.mul(a, -3), tf.div(1, a), tf.div(a, 4), tf.maximum(a, 0.5), tf.minimum(a, 0.5), tf.pow(a, 2),
    ], // prettier-ignore
  },
  {
    name: 'functions of positive numbers',
    inputs: (make) => [make.normal([41, 77], 0.3, 2)],
    compute: (x) => [tf.log(x), tf.sqrt(x), tf.rsqrt(x), tf.reciprocal(x)],
  },
  {
    name: 'functions of both signs',
    inputs: (make) => [make.normal([41, 77], 3)],
    compute: (x) => [
      tf.exp(x), tf.neg(x), tf.square(x), tf.sigmoid(x), tf.tanh(x), tf.abs(x), tf.softplus(x), tf.relu(x), tf.sign(x),
      tf.clipByValue(x, -0.5, 0.75), tf.floor(x), tf.erf(x), tf.logSigmoid(x), tf.elu(x), tf.step(x), tf.sin(x), tf.cos(x),
    ], // prettier-ignore
  },
  {
    name: 'choice and types',
    inputs: (make) => [make.normal([46, 51]), make.normal([51]), make.integers([46, 51], 5)],
    compute: (a, b, n) => [
      tf.where(tf.greater(a, b), a, tf.zerosLike(a)), tf.cast(tf.lessEqual(a, b), 'float32'), tf.cast(a, 'int32'),
      tf.where(tf.greater(tf.slice(a, [0, 0], [46, 1]), 0), a, tf.onesLike(a)),
      tf.cast(tf.equal(n, 3), 'int32'), tf.cast(n, 'float32'), tf.logicalAnd(tf.greater(a, 0), tf.less(a, b)),
      tf.add(n, n), tf.floorDiv(n, tf.scalar(2, 'int32')), tf.oneHot(tf.cast(n, 'int32'), 5), tf.any(tf.greater(a, 1), 1),
    ], // prettier-ignore
    exact: true,
  },
  {
    name: 'sums of many',
    inputs: (make) => [make.normal([30, 50]), make.normal([30, 50]), make.normal([30, 50])],
    compute: (...terms) => [tf.addN(terms)],
  },
];

export const ELEMENTWISE_CASES: readonly KernelCase[] = [
  ...ARITHMETIC,
  ...COMPARISONS,
  ...SATURATED,
  ...NOT_FINITE,
  ...OTHERS,
];
