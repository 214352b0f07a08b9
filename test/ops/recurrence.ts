/** Tests of the forms of an op that carries a decaying state from position to position, against its definition in float64. */
import fc from 'fast-check';
import type { Test } from 'uvu';
import type * as tf from '../../src/tf.js';
import { compareOp } from './compare.js';
import type { Array64 } from './reference.js';

interface Shape {
  batch: number;
  time: number;
  heads: number;
  keyWidth: number;
  valueWidth: number;
}

interface Result<T> {
  readonly output: T;
  readonly state: T;
}

export interface RecurrentOp<Form extends string> {
  readonly forms: readonly Form[];
  /** Inputs [B, T, H] beside q, k and v: the logarithms of decays first. */
  readonly gates: number;
  /** What the gates are made of normal values by; absent: as they are. */
  readonly prepare: (values: Float64Array, gate: number) => Float64Array;
  readonly compute: (
    inputs: readonly tf.Tensor[],
    state: tf.Tensor4D | undefined,
    options: { form?: Form; chunkSize?: number },
  ) => Result<tf.Tensor>;
  readonly reference: (inputs: readonly Array64[], state: Array64 | undefined) => Result<Array64>;
}

const SHAPES: readonly Shape[] = [
  { batch: 1, time: 1, heads: 1, keyWidth: 2, valueWidth: 3 },
  { batch: 2, time: 7, heads: 2, keyWidth: 4, valueWidth: 3 },
  { batch: 1, time: 16, heads: 3, keyWidth: 3, valueWidth: 5 },
];

/** q, k and v. */
const ROWS = 3;

export function testForms<Form extends string>(test: Test, op: RecurrentOp<Form>): void {
  const count = ROWS + op.gates;
  const compare = (
    { batch, time, heads, keyWidth, valueWidth }: Shape,
    options: { form?: Form; chunkSize?: number },
    withState: boolean,
  ): void => {
    const positions = [batch, time, heads];
    compareOp({
      shapes: [
        ...[keyWidth, keyWidth, valueWidth].map((width) => [...positions, width]),
        ...Array.from({ length: op.gates }, () => positions),
        ...(withState ? [[batch, heads, keyWidth, valueWidth]] : []),
      ],
      op: (...inputs) => {
        const state = inputs[count] as tf.Tensor4D | undefined;
        const result = op.compute(inputs.slice(0, count), state, options);
        return [result.output, result.state];
      },
      reference: (...inputs) => {
        const result = op.reference(inputs.slice(0, count), inputs[count]);
        return [result.output, result.state];
      },
      prepare: (values, input) =>
        input >= ROWS && input < count ? op.prepare(values, input - ROWS) : values,
    });
  };

  for (const form of op.forms) {
    test(`${form} form: values and gradients, with and without a state`, () => {
      for (const shape of SHAPES) for (const withState of [false, true]) compare(shape, { form }, withState);
    });
  }

  test('chunks that do and do not divide the sequence', () => {
    const shape = { batch: 2, time: 13, heads: 2, keyWidth: 3, valueWidth: 4 };
    for (const chunkSize of [1, 2, 4, 5, 12, 13, 64]) compare(shape, { chunkSize }, chunkSize % 2 === 0);
  });

  test('values and gradients for random shapes and chunks', () => {
    const size = fc.integer({ min: 1, max: 4 });
    const shapes = fc.record({
      batch: fc.integer({ min: 1, max: 2 }),
      time: fc.integer({ min: 1, max: 15 }),
      heads: fc.integer({ min: 1, max: 3 }),
      keyWidth: size,
      valueWidth: size,
    });
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 16 }), fc.boolean(), (shape, chunkSize, withState) => {
        compare(shape, { chunkSize }, withState);
      }),
      { numRuns: 8, seed: 1 },
    );
  });
}

/** Logarithms of decays between weak and strong: exp(-2) to 1. */
export const weakAndStrong = (values: Float64Array): Float64Array =>
  values.map((value) => -Math.min(2, Math.abs(value)));
