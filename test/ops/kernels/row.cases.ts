/** Norms, rotary embedding, gates, linear layers and embedding. */
import {
  embedding, gatedRmsNorm, linear, linearGroup, linearSwiglu, logDecay, preNorm, rmsNorm, rotary, rotaryPair, swiglu,
} from '../../../src/ops/index.js'; // prettier-ignore
import type * as tf from '../../../src/tf.js';
import { tensor } from '../../../src/tf.js';
import * as reference from '../reference.js';
import type { KernelCase } from './contract.js';

const NORMS: readonly KernelCase[] = [
  [1, 1, 1], [7], [5, 8], [5, 128], [3, 3072], [70, 64], [9, 100], [300, 24], [70, 520], [129, 768], [3, 7, 33], [2, 3, 4, 6],
].flatMap((shape): KernelCase[] => {
  const width = shape.at(-1) ?? 1;
  return [
    {
      name: `rmsNorm, ${shape.join('x')}`,
      inputs: (make) => [make.normal(shape, 2), make.normal([width], 0.2, 1)],
      compute: (x, weight) => [rmsNorm(x, weight as tf.Tensor1D, 1e-5)],
      reference: (x, weight) => [reference.rmsNorm(x, weight, 1e-5)],
      gradients: true,
      cancels: width === 1,
    },
    {
      name: `preNorm, ${shape.join('x')}`,
      inputs: (make) => [make.normal(shape, 2), make.normal([width], 0.2, 1)],
      compute: (x, weight) => preNorm(x, weight, 1e-5),
      reference: (x, weight) => [reference.rmsNorm(x, weight, 1e-5), x],
      gradients: true,
    },
    {
      name: `rmsNorm without a weight, ${shape.join('x')}`,
      inputs: (make) => [make.normal(shape, 2)],
      compute: (x) => [rmsNorm(x, null, 1e-3)],
      reference: (x) => [reference.rmsNorm(x, null, 1e-3)],
      gradients: true,
      cancels: width === 1,
    },
  ];
}); // prettier-ignore

const GATED_NORMS: readonly KernelCase[] = [4, 256, 3072, 100, 24].map((width) => ({
  name: `gatedRmsNorm, heads of ${width}`,
  inputs: (make) => [make.normal([1, 3, 2, width], 2), make.normal([1, 3, 2 * width])],
  compute: (x, gate) => [gatedRmsNorm(x, gate, 1e-5)],
  reference: (x, gate) => [reference.swiglu({ ...gate, shape: x.shape }, reference.rmsNorm(x, null, 1e-5))],
}));

const POSITIONS = Int32Array.from({ length: 18 }, (_, i) => (i * 7919) % 100_000);

const ROTATIONS: readonly KernelCase[] = (['interleaved', 'half'] as const).flatMap((style) =>
  [128, 64, 32, 12, 10, 2].flatMap((width): KernelCase[] => {
    const frequencies = Float64Array.from({ length: width / 2 }, (_, i) => 10000 ** ((-2 * i) / width));
    const options = { start: 1_000_003, frequencies, style };
    const at = (_: number, t: number): number => options.start + t;
    return [
      {
        name: `rotary, ${style}, heads of ${width}`,
        inputs: (make) => [make.normal([2, 9, 3, width])],
        compute: (x) => [rotary(x as tf.Tensor4D, options)],
        reference: (x) => [reference.rotary(x, at, frequencies, style)],
        gradients: true,
      },
      {
        name: `rotaryPair, ${style}, heads of ${width}`,
        inputs: (make) => [make.normal([2, 9, 3, width]), make.normal([2, 9, 1, width])],
        compute: (q, k) => rotaryPair(q as tf.Tensor4D, k as tf.Tensor4D, options),
        reference: (...heads) => heads.map((x) => reference.rotary(x, at, frequencies, style)),
        gradients: true,
      },
      {
        name: `rotary of one position, ${style}, heads of ${width}`,
        inputs: (make) => [make.normal([1, 1, 3, width])],
        compute: (x) => [rotary(x as tf.Tensor4D, options)],
        reference: (x) => [reference.rotary(x, at, frequencies, style)],
        gradients: true,
      },
      {
        name: `rotary at given positions, ${style}, heads of ${width}`,
        inputs: (make) => [make.normal([2, 9, 3, width])],
        compute: (x) => [rotary(x as tf.Tensor4D, { positions: POSITIONS, frequencies, style })],
        reference: (x) => [reference.rotary(x, (b, t) => POSITIONS[b * 9 + t] ?? 0, frequencies, style)],
        gradients: true,
      },
    ];
  }),
);

const GATES: readonly KernelCase[] = [[1], [7, 129], [4, 2, 64], [200, 33]].flatMap((shape): KernelCase[] => [
  {
    name: `swiglu, ${shape.join('x')}`,
    inputs: (make) => [make.normal(shape, 3), make.normal(shape)],
    compute: (a, b) => [swiglu(a, b)],
    reference: (a, b) => [reference.swiglu(a, b)],
    gradients: true,
  },
  {
    name: `logDecay, ${shape.join('x')}`,
    inputs: (make) => [make.normal(shape, 4)],
    compute: (x) => [logDecay(x, 16)],
    reference: (x) => [reference.logDecay(x, 16)],
    gradients: true,
  },
]);

/** [leading dimensions, in, out] */
const LINEAR: readonly (readonly [number[], number, number])[] = [
  [[2, 33], 48, 80], [[2, 9], 33, 17], [[1, 1], 5, 1], [[4], 5, 7], [[1], 3072, 100], [[3], 200, 7], [[4], 1032, 33], [[40], 48, 24],
  [[1], 48, 80], [[1, 1], 256, 264], [[1, 1, 1], 16, 4],
]; // prettier-ignore

/** Products that end in SwiGLU. */
const linearSwigluCase = (lead: readonly number[], inner: number, width: number): KernelCase => ({
  name: `linearSwiglu, ${lead.join('x')} rows, ${inner} to ${width}`,
  inputs: (make) => [
    make.normal([...lead, inner]),
    make.normal([width, inner], inner ** -0.5),
    make.normal([width, inner], inner ** -0.5),
  ],
  compute: (x, activated, gate) => [linearSwiglu(x, activated, gate)],
  reference: (x, activated, gate) => [
    reference.swiglu(reference.linear(x, activated), reference.linear(x, gate)),
  ],
});

const PROJECTIONS: readonly KernelCase[] = LINEAR.flatMap(([lead, inner, width]): KernelCase[] => {
  const sizes = `${lead.join('x')} rows, ${inner} to ${width}`;
  const scale = inner ** -0.5;
  return [
    {
      name: `linear, ${sizes}`,
      inputs: (make) => [make.normal([...lead, inner]), make.normal([width, inner], scale)],
      compute: (x, weight) => [linear(x, weight)],
      reference: (x, weight) => [reference.linear(x, weight)],
      gradients: true,
    },
    {
      name: `linear with a residual, ${sizes}`,
      inputs: (make) => [
        make.normal([...lead, inner]),
        make.normal([width, inner], scale),
        make.normal([...lead, width]),
      ],
      compute: (x, weight, residual) => [linear(x, weight, residual)],
      reference: (x, weight, residual) => [reference.linear(x, weight, residual)],
      gradients: true,
    },
    linearSwigluCase(lead, inner, width),
  ];
});

/** Tiles for the multiprocessors of an H200, the last ones cut off, with more slices of 64 inner elements than are in flight. */
const MANY_ROWS = [linearSwigluCase([2, 515], 264, 1672)];

/** [leading dimensions, in, out of each] */
const GROUP_SIZES = [
  [[2, 33], 48, [80, 24, 1, 5]], [[3], 48, [80, 24, 1, 5]], [[1, 1], 48, [80, 24, 1, 5]], [[1, 1], 48, [80, 24, 4]],
  [[40], 48, [80]], [[2, 33], 48, [80, 80]], [[70], 72, [40, 40, 40]], [[2, 70], 33, [40, 40, 7, 7]], [[150], 328, [56, 24, 56, 56, 3]],
  [[9], 48, [12, 16, 40, 12, 40]], [[70], 24, [33, 33, 33, 33, 9]],
] as const; // prettier-ignore

const GROUPS: readonly KernelCase[] = GROUP_SIZES.map(([lead, inner, widths]) => ({
  name: `linearGroup, ${lead.join('x')} rows, ${inner} to ${widths.join(', ')}`,
  inputs: (make) => [
    make.normal([...lead, inner]),
    ...widths.map((width) => make.normal([width, inner], inner ** -0.5)),
  ],
  compute: (x, ...weights) => linearGroup(x, weights),
  reference: (x, ...weights) => weights.map((weight) => reference.linear(x, weight)),
  gradients: true,
}));

const EMBEDDINGS: readonly KernelCase[] = [
  [20, 36], [7, 4], [13, 21], [11, 264], [3, 40], [3, 5], [700, 16],
].map(([vocabulary = 1, width = 1]) => {
  const ids = Int32Array.from({ length: 150 }, (_, i) => (i * i * 31) % vocabulary);
  return {
    name: `embedding sums the gradients of repeated ids, ${vocabulary}x${width}`,
    inputs: (make) => [make.normal([vocabulary, width])],
    compute: (weight) => [embedding(weight, tensor(ids, [3, 50], 'int32'), 1.5)],
    reference: (weight) => [{ ...reference.embedding(weight, ids, 1.5), shape: [3, 50, width] }],
    gradients: true,
  };
}); // prettier-ignore

export const ROW_CASES: readonly KernelCase[] = [
  ...NORMS,
  ...GATED_NORMS,
  ...ROTATIONS,
  ...GATES,
  ...PROJECTIONS,
  ...MANY_ROWS,
  ...GROUPS,
  ...EMBEDDINGS,
];
