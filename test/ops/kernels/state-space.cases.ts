/** Mamba-2's state space: heads that share b and c, carried states, few positions, and steps of all sizes. */
import { stateSpaceDual, timeSteps } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import * as reference from '../reference.js';
import { type Input, type Inputs, type KernelCase, floats, gradientsOf, tensorOf } from './contract.js';

type A = reference.Array64;

interface Sizes {
  readonly batch: number;
  readonly time: number;
  readonly heads: number;
  readonly groups: number;
  readonly states: number;
  readonly width: number;
}

/** x, dt, b, c, dtBias, aLog, skip and the state. */
function operands(make: Inputs, { batch, time, heads, groups, states, width }: Sizes, dt: Input): Input[] {
  return [
    make.normal([batch, time, heads, width]),
    dt,
    make.normal([batch, time, groups, states]),
    make.normal([batch, time, groups, states]),
    make.normal([heads], 1, -1),
    make.normal([heads], 0.5, -0.5),
    make.normal([heads]),
    make.normal([batch, heads, states, width]),
  ];
}

export function scan(...tensors: tf.Tensor[]): tf.Tensor[] {
  const [x, dt, b, c, dtBias, aLog, skip, state] = tensors as [
    tf.Tensor4D, tf.Tensor3D, tf.Tensor4D, tf.Tensor4D, tf.Tensor1D, tf.Tensor1D, tf.Tensor1D, tf.Tensor4D,
  ]; // prettier-ignore
  const { output, state: last } = stateSpaceDual({ x, dt, b, c }, { dtBias, aLog, skip }, { state });
  return [output, last];
}

function scanReference(...inputs: A[]): A[] {
  const [x, dt, b, c, bias, aLog, skip, state] = inputs as [A, A, A, A, A, A, A, A];
  const { output, state: last } = reference.stateSpace([x, dt, b, c], [bias, aLog, skip], state);
  return [output, last];
}

/**
 * The terms of the gradients of dtBias and aLog. A kernel has the gradient of a position's log decay as the sum of c·dc − b·db over it
 * and all later positions, and ⟨S, dS⟩ of the last state: two sums of one sign, whose difference is small.
 */
function termsOfGates(inputs: readonly Input[], weights: readonly Input[]): number[] {
  return tf.tidy(() => {
    const [x, dt, b, c, dtBias, aLog, ...rest] = inputs.map(tensorOf) as [
      tf.Tensor4D, tf.Tensor3D, tf.Tensor4D, tf.Tensor4D, tf.Tensor1D, tf.Tensor1D, ...tf.Tensor[],
    ]; // prettier-ignore
    // Each head has b and c of its own, so that their gradients are of the head.
    const heads = x.shape[2];
    const share = heads / b.shape[2];
    const group = tf.tensor1d(Array.from({ length: heads }, (_, head) => Math.floor(head / share)), 'int32'); // prettier-ignore
    const own = [x, dt, tf.gather(b, group, 2), tf.gather(c, group, 2), dtBias, aLog, ...rest];
    const gradients = gradientsOf(scan, own, weights) as [tf.Tensor, tf.Tensor, ...tf.Tensor[]];
    const dots = (i: number): tf.Tensor3D =>
      tf.sum(tf.mul(own[i] as tf.Tensor, gradients[i] as tf.Tensor), 3);
    const end = tf.sum(tf.mul(scan(...own)[1] as tf.Tensor, tensorOf(weights[1] as Input)), [2, 3], true);
    const logits = tf.add(dt, dtBias);
    const rate = tf.neg(tf.exp(aLog));
    return [tf.mul(rate, tf.sigmoid(logits)), tf.mul(rate, tf.softplus(logits))].map((slope, i) => {
      // A dot is in the sums of all positions up to its own.
      const slopes = tf.cumsum(slope, 1);
      const last = tf.slice(slopes, [0, x.shape[1] - 1, 0], [-1, 1, -1]);
      const ends = tf.reshape(end, [x.shape[0], 1, heads]);
      const squares = [tf.mul(slopes, dots(2)), tf.mul(slopes, dots(3)), tf.mul(last, ends)].map((terms) => tf.sum(tf.square(terms))); // prettier-ignore
      const norm = tf.norm(gradients[4 + i] as tf.Tensor);
      return tf.div(tf.sqrt(tf.addN(squares as tf.Scalar[])), norm).dataSync()[0] ?? NaN;
    });
  });
}

const usual = (batch: number, time: number, heads: number, groups: number, states: number, width: number) => ({
  batch, time, heads, groups, states, width,
}); // prettier-ignore

const SIZES: readonly Sizes[] = [
  usual(2, 1, 2, 1, 4, 3),
  usual(1, 9, 4, 2, 8, 6),
  usual(2, 70, 3, 1, 16, 8),
  usual(1, 130, 4, 2, 24, 16),
  usual(2, 300, 4, 1, 128, 64),
  usual(1, 3, 4, 2, 128, 64),
];

/** With more, finite differences of the reference take too long, and with far more so does the plain backend. */
const [MOST_STEPS, LARGE] = [20_000, 1e7];

const USUAL: readonly KernelCase[] = SIZES.map((sizes) => {
  const { batch, time, heads, groups, states, width } = sizes;
  const work = batch * time * heads * states * width;
  return {
    name: `stateSpaceDual, ${[batch, time, `${heads}/${groups}`, states, width].join('x')}`,
    inputs: (make) => operands(make, sizes, make.normal([batch, time, heads])),
    compute: scan,
    large: work > LARGE,
    ...(work <= MOST_STEPS && { reference: scanReference }),
    gradients: true,
    tolerance: { float32: 5e-5, bfloat16: 1.6e-2 },
    sums: { inputs: [4, 5], terms: termsOfGates },
  };
});

/** A step of 0 keeps the state, a long one forgets it. */
const SATURATED: readonly KernelCase[] = [1, 5, 90].map((time) => {
  const sizes = usual(1, time, 2, 1, 8, 8);
  const logits = [-200, -30, 0, 15, 200];
  return {
    name: `stateSpaceDual of ${time} positions with steps from 0 to 200`,
    inputs: (make) =>
      operands(
        make,
        sizes,
        floats([1, time, 2], (i) => logits[i % 5] ?? 0),
      ),
    compute: scan,
    reference: scanReference,
    tolerance: { float32: 2e-4 },
  };
});

const STEPS: KernelCase = {
  name: 'timeSteps from 0 to 100',
  inputs: (make) => [
    floats([2, 30, 5], (i) => (i % 67) * 3 - 100),
    make.normal([5], 2, -3),
    make.normal([5], 1, 1),
  ],
  compute: (x, bias, aLog) => {
    const { step, logDecay } = timeSteps(x as tf.Tensor3D, bias as tf.Tensor1D, aLog as tf.Tensor1D, 3);
    return [step, logDecay];
  },
  gradients: true,
};

export const STATE_SPACE_CASES: readonly KernelCase[] = [...USUAL, ...SATURATED, STEPS];
