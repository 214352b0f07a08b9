import { suite } from 'uvu';
import { gatedRetention, logDecay } from '../../src/ops/gated-retention/gated-retention.js';
import * as tf from '../../src/tf.js';
import { assertOpParity, assertParity, random } from './parity.js';

const test = suite('cpu engine: fused gated retention');

/** Batch, time, heads, key width, value width. */
const SIZES: [number, number, number, number, number][] = [
  [1, 1, 1, 1, 1],
  [2, 1, 3, 8, 5],
  [2, 7, 2, 8, 8],
  [1, 64, 2, 16, 16],
  [3, 128, 2, 8, 16],
  [2, 150, 1, 16, 8],
  [1, 2200, 1, 8, 8],
];

for (const sizes of SIZES)
  for (const withState of [false, true]) {
    const [batch, time, heads, key, value] = sizes;
    const name = `${sizes.join('x')}${withState ? ' from a state' : ''}`;
    test(name, () =>
      assertOpParity(
        [
          [batch, time, heads, key],
          [batch, time, heads, key],
          [batch, time, heads, value],
          [batch, time, heads],
          ...(withState ? [[batch, heads, key, value]] : []),
        ],
        ([q, k, v, gates, state]) => {
          const decay = logDecay(tf.mul<tf.Tensor3D>(gates, 4), 16);
          const options = withState ? { state: state as tf.Tensor4D } : {};
          const result = gatedRetention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, decay, options);
          return [result.output, result.state];
        },
        { tolerance: 5e-5 },
      ),
    );
  }

// Values only: the gradient of such decays is all cancellation.
test('decays that vanish within a chunk', () =>
  assertParity(
    () => {
      const [q, k, v] = [1, 2, 3].map((seed) => random([1, 70, 1, 8], seed) as tf.Tensor4D);
      const decay = tf.mul<tf.Tensor3D>(tf.add(random([1, 70, 1], 4), 1.1), -40);
      const result = gatedRetention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, decay);
      return [result.output, result.state];
    },
    { tolerance: 5e-5 },
  ));

test.run();
