/** Mamba-2's state space in its three forms, over random shapes, and its edges. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { stateSpaceDual, type RetentionOptions } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { compareOp } from './compare.js';
import * as reference from './reference.js';

const test = suite('ops: state-space dual');
test.before(usePlainBackend);

type A = reference.Array64;

interface Sizes {
  readonly batch: number;
  readonly time: number;
  readonly groups: number;
  /** Heads of a group. */
  readonly share: number;
  readonly states: number;
  readonly width: number;
}

function compare({ batch, time, groups, share, states, width }: Sizes, options: RetentionOptions): void {
  const heads = groups * share;
  compareOp({
    shapes: [
      [batch, time, heads, width],
      [batch, time, heads],
      [batch, time, groups, states],
      [batch, time, groups, states],
      [heads],
      [heads],
      [heads],
      [batch, heads, states, width],
    ],
    op: (...tensors) => {
      const [x, dt, b, c, dtBias, aLog, skip, state] = tensors as [
        tf.Tensor4D, tf.Tensor3D, tf.Tensor4D, tf.Tensor4D, tf.Tensor1D, tf.Tensor1D, tf.Tensor1D, tf.Tensor4D,
      ]; // prettier-ignore
      const result = stateSpaceDual({ x, dt, b, c }, { dtBias, aLog, skip }, { ...options, state });
      return [result.output, result.state];
    },
    reference: (...inputs) => {
      const [x, dt, b, c, bias, aLog, skip, state] = inputs as [A, A, A, A, A, A, A, A];
      const result = reference.stateSpace([x, dt, b, c], [bias, aLog, skip], state);
      return [result.output, result.state];
    },
  });
}

for (const form of ['parallel', 'recurrent', 'chunkwise'] as const) {
  test(`${form} form: values and gradients`, () => {
    compare({ batch: 2, time: 7, groups: 2, share: 2, states: 3, width: 4 }, { form });
    compare({ batch: 1, time: 1, groups: 1, share: 3, states: 2, width: 1 }, { form });
  });
}

test('random shapes and chunks', () => {
  const small = fc.integer({ min: 1, max: 3 });
  const sizes = fc.record({
    batch: small,
    time: fc.integer({ min: 1, max: 11 }),
    groups: small,
    share: small,
    states: fc.integer({ min: 1, max: 5 }),
    width: fc.integer({ min: 1, max: 5 }),
  });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 12 }), (shape, chunkSize) => {
      compare(shape, { chunkSize });
    }),
    { numRuns: 10, seed: 2 },
  );
});

test('no tokens leave the state as it is', () => {
  tf.tidy(() => {
    const state = tf.randomNormal<tf.Rank.R4>([1, 2, 3, 4]);
    const inputs = {
      x: tf.zeros<tf.Rank.R4>([1, 0, 2, 4]),
      dt: tf.zeros<tf.Rank.R3>([1, 0, 2]),
      b: tf.zeros<tf.Rank.R4>([1, 0, 1, 3]),
      c: tf.zeros<tf.Rank.R4>([1, 0, 1, 3]),
    };
    const ones = tf.ones<tf.Rank.R1>([2]);
    const weights = { dtBias: ones, aLog: ones, skip: ones };
    const kept = stateSpaceDual(inputs, weights, { state });
    assert.equal(kept.output.shape, [1, 0, 2, 4]);
    assert.equal(kept.state.dataSync(), state.dataSync());
    assert.equal(Math.max(...stateSpaceDual(inputs, weights).state.dataSync()), 0);
  });
});

test.run();
