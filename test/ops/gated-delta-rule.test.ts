import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type DeltaOptions, gatedDeltaRule, shortConvolution } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { compareOp } from './compare.js';
import * as reference from './reference.js';

const test = suite('ops: gated delta rule');
test.before(usePlainBackend);

interface Shape {
  batch: number;
  time: number;
  heads: number;
  keyWidth: number;
  valueWidth: number;
}

type A = reference.Array64;

/** Decays between weak and strong, exp(-2) to 1; strengths between 0 and 1. */
const prepare = (values: Float64Array, input: number): Float64Array => {
  if (input === 3) return values.map((value) => -Math.min(2, Math.abs(value)));
  return input === 4 ? values.map((value) => 1 / (1 + Math.exp(-value))) : values;
};

function compareDelta(shape: Shape, options: DeltaOptions, withState: boolean): void {
  const { batch, time, heads, keyWidth, valueWidth } = shape;
  const scales = { queryScale: 0.7, keyScale: 0.6 * keyWidth ** -0.5 };
  compareOp({
    shapes: [
      [batch, time, heads, keyWidth],
      [batch, time, heads, keyWidth],
      [batch, time, heads, valueWidth],
      [batch, time, heads],
      [batch, time, heads],
      ...(withState ? [[batch, heads, keyWidth, valueWidth]] : []),
    ],
    op: (q, k, v, decay, beta, state) => {
      const result = gatedDeltaRule(
        q as tf.Tensor4D,
        k as tf.Tensor4D,
        v as tf.Tensor4D,
        decay as tf.Tensor3D,
        beta as tf.Tensor3D,
        { ...options, ...scales, state: state as tf.Tensor4D | undefined },
      );
      return [result.output, result.state];
    },
    reference: (...inputs) => {
      const result = reference.deltaRule(inputs as unknown as [A, A, A, A, A, A?], scales);
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

for (const form of ['recurrent', 'chunkwise'] as const) {
  test(`${form} form: values and gradients, with and without a state`, () => {
    for (const shape of SHAPES) {
      for (const withState of [false, true]) compareDelta(shape, { form }, withState);
    }
  });
}

test('chunks that do and do not divide the sequence', () => {
  const shape = { batch: 2, time: 13, heads: 2, keyWidth: 3, valueWidth: 4 };
  for (const chunkSize of [1, 2, 4, 5, 12, 13, 64]) compareDelta(shape, { chunkSize }, chunkSize % 2 === 0);
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
      compareDelta(shape, { chunkSize }, withState);
    }),
    { numRuns: 8, seed: 1 },
  );
});

test('a short convolution refuses what does not fit', () => {
  const x = tf.zeros<tf.Rank.R3>([1, 3, 4]);
  const refused = (weight: tf.ShapeMap['R3'], state: tf.ShapeMap['R3'], message: RegExp): void => {
    assert.throws(
      () => shortConvolution(x, tf.zeros(weight), { state: tf.zeros(state) }),
      (error: Error) => error instanceof RangeError && message.test(error.message),
    );
  };
  refused([5, 1, 4], [1, 3, 4], /weight is \[5,1,4\], must be \[4,1,4\]/);
  refused([4, 1, 4], [1, 2, 4], /state is \[1,2,4\], must be \[1,3,4\]/);
  refused([4, 1, 1], [1, 0, 4], /2 taps/);
});

test.run();
