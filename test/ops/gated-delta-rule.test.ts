import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { gatedDeltaRule, shortConvolution } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { testForms, weakAndStrong } from './recurrence.js';
import * as reference from './reference.js';

const test = suite('ops: gated delta rule');
test.before(usePlainBackend);

type A = reference.Array64;

const scales = (keyWidth: number) => ({ queryScale: 0.7, keyScale: 0.6 * keyWidth ** -0.5 });

testForms(test, {
  forms: ['recurrent', 'chunkwise'],
  gates: 2,
  // Strengths between 0 and 1.
  prepare: (values, gate) =>
    gate === 0 ? weakAndStrong(values) : values.map((value) => 1 / (1 + Math.exp(-value))),
  compute: (inputs, state, options) => {
    const [q, k, v] = inputs as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D];
    const [decay, beta] = inputs.slice(3) as [tf.Tensor3D, tf.Tensor3D];
    return gatedDeltaRule(q, k, v, decay, beta, { ...options, ...scales(q.shape[3]), state });
  },
  reference: (inputs, state) => {
    const [q] = inputs as [A];
    return reference.deltaRule([...(inputs as [A, A, A, A, A]), state], scales(q.shape[3] ?? 1));
  },
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
