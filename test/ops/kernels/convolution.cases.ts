/** The short convolution: fewer and more positions than taps, with and without bias, state and silu, and saturated sums. */
import { shortConvolution } from '../../../src/ops/index.js';
import type * as tf from '../../../src/tf.js';
import * as reference from '../reference.js';
import { type Computation, floats, type Inputs, type KernelCase } from './contract.js';

/** Batch, positions, channels, taps. */
type Sizes = readonly [number, number, number, number];

interface Convolution {
  readonly sizes: Sizes;
  readonly bias: boolean;
  readonly state: boolean;
  readonly silu: boolean;
}

const SIZES: readonly Sizes[] = [
  [1, 1, 1, 2],
  [2, 1, 8, 4],
  [2, 2, 5, 4],
  [1, 3, 16, 4],
  [3, 4, 7, 3],
  [2, 37, 24, 4],
  [1, 150, 33, 5],
  [2, 40, 8, 9],
];

/** With more, finite differences of the reference take too long. */
const MOST_ELEMENTS = 300;

function parts({ bias, state }: Convolution, rest: readonly tf.Tensor[]) {
  return {
    bias: bias ? (rest[0] as tf.Tensor1D) : undefined,
    state: state ? (rest.at(-1) as tf.Tensor3D) : undefined,
  };
}

function convolve(shape: Convolution): Computation {
  return (x, weight, ...rest) => {
    const options = { ...parts(shape, rest), silu: shape.silu };
    const { output, state } = shortConvolution(x as tf.Tensor3D, weight as tf.Tensor3D, options);
    return [output, state];
  };
}

function referenceOf({ bias, state, silu }: Convolution): KernelCase['reference'] {
  return (x, weight, ...rest) => {
    const given = { bias: bias ? rest[0] : undefined, state: state ? rest.at(-1) : undefined, silu };
    const result = reference.shortConvolution(x, weight, given);
    return [result.output, result.state];
  };
}

function operands(make: Inputs, { sizes, bias, state }: Convolution) {
  const [batch, time, width, taps] = sizes;
  return [
    make.normal([batch, time, width]),
    make.normal([width, 1, taps], 0.5),
    ...(bias ? [make.normal([width])] : []),
    ...(state ? [make.normal([batch, taps - 1, width])] : []),
  ];
}

const USUAL = SIZES.flatMap((sizes, i) =>
  [false, true].flatMap((state) =>
    [false, true].map((silu): KernelCase => {
      const shape = { sizes, bias: i % 2 === 0, state, silu };
      const [batch, time, width] = sizes;
      return {
        name: `shortConvolution, ${sizes.join('x')}${shape.bias ? ', bias' : ''}${silu ? ', silu' : ''}${state ? ' from a state' : ''}`,
        inputs: (make) => operands(make, shape),
        compute: convolve(shape),
        ...(batch * time * width <= MOST_ELEMENTS && { reference: referenceOf(shape) }),
        gradients: true,
      };
    }),
  ),
);

/** Every value held to its own size where silu is nearly 0 or nearly the identity. */
const SATURATED: KernelCase = {
  name: 'shortConvolution, sums from -80 to 80',
  inputs: () => [
    floats([1, 2, 51], (i) => (i < 51 ? 0 : 3.2 * (i - 76))),
    floats([51, 1, 2], (i) => (i % 2 === 0 ? 0 : 1)),
  ],
  compute: (x, weight) => [shortConvolution(x as tf.Tensor3D, weight as tf.Tensor3D, { silu: true }).output],
  reference: (x, weight) => [reference.shortConvolution(x, weight, { silu: true }).output],
  gradients: true,
  elementwise: true,
};

const LONG_SHAPE: Convolution = { sizes: [1, 700, 264, 4], bias: true, state: true, silu: true };

/** More than one tile of an engine. */
const LONG: KernelCase = {
  name: 'shortConvolution, 700 positions',
  inputs: (make) => operands(make, LONG_SHAPE),
  compute: convolve(LONG_SHAPE),
  gradients: true,
};

export const CONVOLUTION_CASES: readonly KernelCase[] = [...USUAL, SATURATED, LONG];
