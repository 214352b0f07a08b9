import { suite } from 'uvu';
import { gatedRetention } from '../../src/ops/index.js';
import type * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { compareOp } from './compare.js';
import { testForms, weakAndStrong } from './recurrence.js';
import * as reference from './reference.js';

const test = suite('ops: gated retention');
test.before(usePlainBackend);

type RetentionArrays = [reference.Array64, reference.Array64, reference.Array64, reference.Array64];

testForms(test, {
  forms: ['parallel', 'recurrent', 'chunkwise'],
  gates: 1,
  prepare: weakAndStrong,
  compute: (inputs, state, options) => {
    const [q, k, v] = inputs as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D];
    return gatedRetention(q, k, v, inputs[3] as tf.Tensor3D, { ...options, state });
  },
  reference: (inputs, state) => reference.retention(...(inputs as RetentionArrays), state),
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
