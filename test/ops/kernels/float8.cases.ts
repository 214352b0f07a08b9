/** Products with weights that are kept in float8. */
import { keepInFloat8, linear, linearGroup, linearSwiglu } from '../../../src/ops/index.js';
import { roundedToFloat8, roundRows } from '../../../src/ops/linear/float8.js';
import * as tf from '../../../src/tf.js';
import * as reference from '../reference.js';
import { type Inputs, type KernelCase, floats } from './contract.js';

type Array64 = reference.Array64;

/**
 * What the products may be off by beside the rounding of the storage: sums of float8 are kept to fewer bits than float32 has. Operands
 * that are not rounded, or to other factors, are off by ten times as much.
 */
const SUMS = { float32: 4e-3, float16: 4e-3 } as const;
/** Results that are rounded to float8 themselves: where one is near the middle of two numbers, its own error decides. */
const ROUNDED_SUMS = { float32: 3e-2, bfloat16: 5e-2, float16: 3e-2 } as const;

const rounded = ({ shape, data }: Array64): Array64 => ({
  shape,
  data: Float64Array.from(roundRows(Float32Array.from(data), shape.at(-1) ?? 1)),
});

/** What `compute` makes of weights that are kept in float8. */
function withKept<T>(weights: readonly tf.Tensor[], compute: (...kept: tf.Tensor[]) => T): T {
  const kept = weights.map((weight) => tf.variable(weight, false));
  kept.forEach(keepInFloat8);
  const result = compute(...kept);
  tf.dispose(kept);
  return result;
}

const weightOf = (make: Inputs, width: number, inner: number) => make.normal([width, inner], inner ** -0.5);

/** [leading dimensions, in, out] */
const SIZES: readonly (readonly [number[], number, number])[] = [
  [[1], 16, 16], [[3], 48, 80], [[1, 1], 3072, 64], [[8], 3072, 48], [[2, 4], 112, 16], [[9], 48, 16], [[9], 3072, 64], [[2, 65], 256, 144],
  [[257], 48, 48], [[257], 1040, 16],
]; // prettier-ignore

const LINEAR: readonly KernelCase[] = SIZES.flatMap(([lead, inner, width]): KernelCase[] => {
  const sizes = `${lead.join('x')} rows, ${inner} to ${width}`;
  const inputs = (make: Inputs) => [make.normal([...lead, inner]), weightOf(make, width, inner)];
  return [
    {
      name: `linearFloat8, ${sizes}`,
      inputs,
      compute: (x, weight) => withKept([weight], (kept) => [linear(x, kept)]),
      reference: (x, weight) => [reference.linear(rounded(x), rounded(weight))],
      tolerance: SUMS,
    },
    {
      name: `linearFloat8 with a residual, ${sizes}`,
      inputs: (make) => [...inputs(make), make.normal([...lead, width])],
      compute: (x, weight, residual) => withKept([weight], (kept) => [linear(x, kept, residual)]),
      reference: (x, weight, residual) => [reference.linear(rounded(x), rounded(weight), residual)],
      tolerance: SUMS,
    },
    {
      name: `linearSwigluFloat8, ${sizes}`,
      inputs: (make) => [...inputs(make), weightOf(make, width, inner)],
      compute: (x, activated, gate) =>
        withKept([activated, gate], (...kept) => [linearSwiglu(x, ...(kept as [tf.Tensor, tf.Tensor]))]),
      reference: (x, activated, gate) => {
        const [a, b] = [activated, gate].map((weight) => reference.linear(rounded(x), rounded(weight)));
        return [rounded(reference.swiglu(a as Array64, b as Array64))];
      },
      tolerance: ROUNDED_SUMS,
    },
  ];
});

/** [leading dimensions, in, out of each] */
const GROUPS: readonly KernelCase[] = [
  [[1], 48, [80, 16, 16]], [[8], 3072, [16, 48]], [[9], 48, [32, 32, 16]], [[130], 256, [48, 48]],
].map(([lead, inner, widths]): KernelCase => {
  const [dimensions, width, outs] = [lead as number[], inner as number, widths as number[]];
  return {
    name: `linearGroupFloat8, ${dimensions.join('x')} rows, ${width} to ${outs.join(', ')}`,
    inputs: (make) => [make.normal([...dimensions, width]), ...outs.map((out) => weightOf(make, out, width))],
    compute: (x, ...weights) => withKept(weights, (...kept) => linearGroup(x, kept)),
    reference: (x, ...weights) => weights.map((weight) => reference.linear(rounded(x), rounded(weight))),
    tolerance: SUMS,
  };
}); // prettier-ignore

/** Of a row, from 2^-8 to 2^8. */
const scaleOf = (row: number): number => 2 ** (((row * 5) % 17) - 8);

const MAGNITUDES: readonly KernelCase[] = [5, 17].map((rows) => ({
  name: `linearFloat8, ${rows} rows of different magnitudes, one of zeros`,
  inputs: (make) => {
    const x = make.normal([rows, 64]);
    x.values.fill(0, 64, 128);
    return [x, weightOf(make, 32, 64)];
  },
  compute: (x, weight) => {
    const scales = tf.tensor(
      Float32Array.from({ length: rows }, (_, row) => scaleOf(row)),
      [rows, 1],
    );
    return withKept([weight], (kept) => [tf.div(linear(tf.mul(x, scales), kept), scales)]);
  },
  reference: (x, weight) => [reference.linear(rounded(x), rounded(weight))],
  tolerance: SUMS,
}));

const CONFINED: readonly KernelCase[] = [NaN, Infinity].flatMap((odd) =>
  [3, 20].map((rows) => ({
    name: `linearFloat8, ${rows} rows of which one has ${odd}`,
    inputs: (make) => {
      const x = make.normal([rows, 48]);
      x.values[48 + 7] = odd;
      return [x, weightOf(make, 16, 48)];
    },
    compute: (x, weight) =>
      withKept([weight], (kept) => {
        const y = linear(x, kept);
        const others = tf.concat([tf.slice(y, [0, 0], [1, 16]), tf.slice(y, [2, 0], [rows - 2, 16])]);
        return [others, tf.cast(tf.isNaN(tf.slice(y, [1, 0], [1, 16])), 'float32')];
      }),
    reference: (x, weight) => {
      const { data } = reference.linear(rounded(x), rounded(weight));
      const others = [...data.subarray(0, 16), ...data.subarray(32)];
      return [
        { shape: [rows - 1, 16], data: Float64Array.from(others) },
        { shape: [1, 16], data: new Float64Array(16).fill(1) },
      ];
    },
    tolerance: SUMS,
  })),
);

/** Rows of 64 at the ends of binades and of the range of their codes, with what lies in the middle of two codes. */
const edges = (): ReturnType<typeof floats> =>
  floats([16, 64], (i) => {
    const [row, column] = [Math.floor(i / 64), i % 64];
    if (row === 0) return 0;
    const largest = [448, 450, 447, 256, 255, 464][row % 6] as number;
    if (column === 0) return largest;
    return (column % 2 === 0 ? 1 : -1) * (1 + (column % 16) / 16) * 2 ** (Math.floor(column / 4) - 10);
  });

const BITS: readonly KernelCase[] = [
  {
    name: 'keepInFloat8 leaves the values of the reference',
    inputs: (make) => [edges(), make.normal([48, 3072]), make.normal([80, 16])],
    compute: (...weights) => withKept(weights, (...kept) => kept.map((weight) => tf.add(weight, 0))),
    reference: (...weights) => weights.map(rounded),
    exact: true,
  },
  ...[[1], [8], [9], [2, 65]].map((lead): KernelCase => ({
    name: `linearSwigluFloat8, ${lead.join('x')} rows, gives rows in float8`,
    inputs: (make) => [make.normal([...lead, 48]), weightOf(make, 80, 48), weightOf(make, 80, 48)],
    compute: (x, activated, gate) =>
      withKept([activated, gate], (...kept) => {
        const y = linearSwiglu(x, ...(kept as [tf.Tensor, tf.Tensor]));
        return [tf.sub(y, roundedToFloat8(y))];
      }),
    reference: () => [reference.zeros([...lead, 80])],
    exact: true,
  })),
];

export const FLOAT8_CASES: readonly KernelCase[] = [
  ...LINEAR,
  ...GROUPS,
  ...MAGNITUDES,
  ...CONFINED,
  ...BITS,
];
