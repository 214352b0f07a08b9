import fc from 'fast-check';
import { suite } from 'uvu';
import { gatedRetention, type RetentionOptions } from '../../src/ops/index.js';
import type * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { compareOp } from './compare.js';
import * as reference from './reference.js';

const test = suite('ops: gated retention');
test.before(usePlainBackend);

interface Shape {
  batch: number;
  time: number;
  heads: number;
  keyWidth: number;
  valueWidth: number;
}

type RetentionArrays = [reference.Array64, reference.Array64, reference.Array64, reference.Array64];

/** Decays between weak and strong: exp(-2) to 1. */
const prepare = (values: Float64Array, input: number): Float64Array =>
  input === 3 ? values.map((value) => -Math.min(2, Math.abs(value))) : values;

function compareRetention(shape: Shape, options: RetentionOptions, withState: boolean): void {
  const { batch, time, heads, keyWidth, valueWidth } = shape;
  const state = withState ? [[batch, heads, keyWidth, valueWidth]] : [];
  compareOp({
    shapes: [
      [batch, time, heads, keyWidth],
      [batch, time, heads, keyWidth],
      [batch, time, heads, valueWidth],
      [batch, time, heads],
      ...state,
    ],
    op: (q, k, v, decay, state) => {
      const result = gatedRetention(
        q as tf.Tensor4D,
        k as tf.Tensor4D,
        v as tf.Tensor4D,
        decay as tf.Tensor3D,
        {
          ...options,
          state: state as tf.Tensor4D | undefined,
        },
      );
      return [result.output, result.state];
    },
    reference: (...inputs) => {
      const [q, k, v, decay, state] = inputs as [...RetentionArrays, reference.Array64 | undefined];
      const result = reference.retention(q, k, v, decay, state);
      return [result.output, result.state];
    },
    prepare,
  });
}

const SHAPES: Shape[] = [
  { batch: 1, time: 1, heads: 1, keyWidth: 2, valueWidth: 3 },
  { batch: 2, time: 7, heads: 2, keyWidth: 4, valueWidth: 3 },
  { batch: 1, time: 16, heads: 3, keyWidth: 3, valueWidth: 5 },
];

for (const form of ['parallel', 'recurrent', 'chunkwise'] as const) {
  test(`${form} form: values and gradients, with and without a state`, () => {
    for (const shape of SHAPES) {
      for (const withState of [false, true]) compareRetention(shape, { form }, withState);
    }
  });
}

test('chunks that do and do not divide the sequence', () => {
  const shape = { batch: 2, time: 13, heads: 2, keyWidth: 3, valueWidth: 4 };
  for (const chunkSize of [1, 2, 4, 5, 12, 13, 64]) {
    compareRetention(shape, { chunkSize }, true);
    compareRetention(shape, { chunkSize }, false);
  }
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
      compareRetention(shape, { chunkSize }, withState);
    }),
    { numRuns: 12, seed: 1 },
  );
});

test('strong decays neither overflow nor become NaN', () => {
  const shape = [1, 40, 1, 2];
  compareOp({
    shapes: [shape, shape, shape, [1, 40, 1]],
    op: (q, k, v, decay) => [
      gatedRetention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, decay as tf.Tensor3D, {
        chunkSize: 16,
      }).output,
    ],
    reference: (...inputs) => {
      const [q, k, v, decay] = inputs as RetentionArrays;
      return [reference.retention(q, k, v, decay).output];
    },
    prepare: (values, input) => (input === 3 ? values.map((value) => -Math.abs(value) * 40) : values),
    tolerance: 1e-3,
  });
});

test.run();
