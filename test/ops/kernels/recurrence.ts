/** Kernel cases of ops that carry a decaying state from position to position: gated retention and the gated delta rule. */
import * as tf from '../../../src/tf.js';
import type { Array64 } from '../reference.js';
import { type Computation, type Input, type Inputs, type KernelCase, floats } from './contract.js';

export interface Shape {
  /** Batch, time, heads, key width, value width. */
  readonly sizes: readonly [number, number, number, number, number];
  readonly withState?: boolean;
  /** Heads of queries and keys; default: as many as of values. */
  readonly groups?: number;
}

export interface Recurrence {
  readonly name: string;
  /** q, k, v, the logarithms of decays, what else the op takes, and last the state. */
  readonly operands: (make: Inputs, shape: Shape, decay: Input) => Input[];
  /** The output and the last state. */
  readonly compute: Computation;
  readonly reference: (...inputs: Array64[]) => Array64[];
}

/** Queries, keys and values; the state. */
export function rows(make: Inputs, { sizes, groups }: Shape): Input[] {
  const [batch, time, heads, key, value] = sizes;
  const keys = [batch, time, groups ?? heads, key];
  return [make.normal(keys), make.normal(keys), make.normal([batch, time, heads, value])];
}
export function stateOf(make: Inputs, { sizes, withState = false }: Shape): Input[] {
  const [batch, , heads, key, value] = sizes;
  return withState ? [make.normal([batch, heads, key, value])] : [];
}

/** With and without a state: one position, chunks that are and are not whole. */
const SMALL = [
  [1, 1, 1, 1, 1],
  [2, 1, 3, 8, 5],
  [2, 7, 2, 8, 8],
  [1, 64, 2, 16, 16],
  [3, 128, 2, 8, 16],
  [2, 150, 1, 16, 8],
] as const;
const SHAPES: readonly Shape[] = [
  ...SMALL.flatMap((sizes) => [false, true].map((withState) => ({ sizes, withState }))),
  { sizes: [2, 300, 2, 128, 128], withState: true },
  { sizes: [1, 333, 3, 64, 64], withState: true },
  { sizes: [2, 96, 2, 16, 24], withState: true },
  { sizes: [1, 5, 2, 128, 128], withState: true },
  { sizes: [2, 1, 3, 32, 32], withState: true },
  { sizes: [1, 3, 2, 256, 256], withState: true },
];

/** With more, finite differences of the reference take too long. */
const MOST_STEPS = 20_000;

/**
 * Values and gradients, of these shapes and those that the op adds.
 * @param decay mean size of the logarithms of decays
 * @param most with more work, batch * time * heads * key * value, the plain backend takes too long
 */
export function usualCases(
  op: Recurrence,
  more: readonly Shape[],
  { decay, most, tolerance }: { decay: number; most: number; tolerance: KernelCase['tolerance'] },
): KernelCase[] {
  return [...SHAPES, ...more].map((shape) => {
    const { sizes, withState, groups } = shape;
    const [batch, time, heads] = sizes;
    const work = sizes.reduce((product, size) => product * size, 1);
    return {
      name: `${op.name}, ${sizes.join('x')}${groups ? `, ${groups} of keys` : ''}${withState ? ' from a state' : ''}`,
      inputs: (make) => op.operands(make, shape, make.normal([batch, time, heads], decay / 3, -decay)),
      compute: op.compute,
      // Without a state there is nothing that the first position's decay acts on.
      cancels: time === 1 && !withState,
      large: work > most,
      ...(work <= MOST_STEPS && { reference: op.reference }),
      gradients: true,
      tolerance,
    };
  });
}

/** Logarithms of decays: at every `every`-th position `forgetting`, else weak. */
const decays = (shape: readonly number[], every: number, forgetting: number): Input =>
  floats(shape, (i) => (Math.floor(i / (shape.at(-1) ?? 1)) % every === every - 1 ? forgetting : -0.0625));

/** What strong decays are summed with keeps fewer digits. */
const STRONG = { float32: 2e-4 };

/** A decay of 0 forgets all that came before: at a single position, often, everywhere. */
export function forgettingCases(op: Recurrence): KernelCase[] {
  return [
    { every: 37, forgetting: -Infinity },
    { every: 5, forgetting: -Infinity },
    { every: 1, forgetting: -Infinity },
    { every: 7, forgetting: -1000 },
    { every: 3, forgetting: -40 },
  ].flatMap(({ every, forgetting }) =>
    [1, 16, 70, 200].map((time): KernelCase => {
      const shape: Shape = { sizes: [1, time, 2, 8, 8], withState: true };
      return {
        name: `${op.name} of ${time} positions, exp(${forgetting}) at every ${every}th`,
        inputs: (make) => op.operands(make, shape, decays([1, time, 2], every, forgetting)),
        compute: op.compute,
        reference: op.reference,
        tolerance: STRONG,
      };
    }),
  );
}

/** Their gradients but that of the decay, for which finite differences of -Infinity are no measure. */
export function forgettingGradients(op: Recurrence): KernelCase[] {
  const shape: Shape = { sizes: [1, 70, 2, 8, 8], withState: true };
  return [-Infinity, -1000].map((forgetting) => ({
    name: `${op.name}, gradients with exp(${forgetting})`,
    inputs: (make) => op.operands(make, shape, decays([1, 70, 2], 9, forgetting)),
    compute: (...tensors) => {
      const [q, k, v, decay, ...rest] = tensors as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
      const f = (...x: tf.Tensor[]): tf.Tensor =>
        tf.addN(op.compute(...x.slice(0, 3), decay, ...x.slice(3)).map((y) => tf.sum(y)));
      return tf.grads(f)([q, k, v, ...rest]);
    },
    tolerance: STRONG,
  }));
}

/** A NaN of a decay reaches all later positions. */
export function passesNaN(op: Recurrence): KernelCase {
  return {
    name: `${op.name} passes a NaN of the decay on`,
    inputs: (make) =>
      op.operands(
        make,
        { sizes: [1, 70, 1, 8, 8] },
        floats([1, 70, 1], (i) => (i === 20 ? NaN : -0.5)),
      ),
    // Positions behind the NaN; those before it in its chunk may be NaN or not.
    compute: (...tensors) => {
      const [output] = op.compute(...tensors) as [tf.Tensor4D];
      return [tf.cast(tf.isNaN(tf.slice(output, [0, 20, 0, 0])), 'float32')];
    },
    reference: () => [{ shape: [1, 50, 1, 8], data: new Float64Array(400).fill(1) }],
    exact: true,
    except: { webgpu: 'shaders need not keep NaN' },
  };
}
