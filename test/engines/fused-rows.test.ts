import { suite } from 'uvu';
import { embedding } from '../../src/ops/embedding/embedding.js';
import { linear, linearGroup } from '../../src/ops/linear/linear.js';
import { rmsNorm } from '../../src/ops/rms-norm/rms-norm.js';
import { rotary } from '../../src/ops/rotary/rotary.js';
import { swiglu } from '../../src/ops/swiglu/swiglu.js';
import * as tf from '../../src/tf.js';
import { assertOpParity } from './parity.js';

const test = suite('cpu engine: fused kernels on rows');

for (const shape of [
  [1, 1, 1],
  [3, 7, 33],
  [2, 65, 128],
])
  test(`rmsNorm with and without a weight, ${shape.join('x')}`, async () => {
    const width = shape.at(-1) as number;
    await assertOpParity([shape, [width]], ([x, w]) => rmsNorm(x, w, 1e-5));
    await assertOpParity([shape], ([x]) => rmsNorm(x, null, 1e-3));
  });

for (const shape of [[1], [3, 5, 17], [200, 33]])
  test(`swiglu, ${shape.join('x')}`, () =>
    assertOpParity([shape, shape], ([a, b]) => swiglu(tf.mul(a, 8), b)));

test('linear, with and without a residual', async () => {
  await assertOpParity([[2, 9, 33], [17, 33]], ([x, w]) => linear(x, w)); // prettier-ignore
  await assertOpParity([[2, 9, 33], [17, 33], [2, 9, 17]], ([x, w, r]) => linear(x, w, r)); // prettier-ignore
  await assertOpParity([[1, 1, 5], [1, 5]], ([x, w]) => linear(x, w)); // prettier-ignore
});

test('several projections at once', () =>
  assertOpParity([[2, 9, 33], [17, 33], [1, 33], [40, 33]], ([x, a, b, c]) => linearGroup(x, [a, b, c]))); // prettier-ignore

for (const style of ['interleaved', 'half'] as const)
  test(`rotary, ${style}, from a start and at given positions`, async () => {
    const frequencies = Float64Array.of(1, 0.3, 0.07, 0.01, 1e-4);
    const shape = [2, 11, 3, 10];
    await assertOpParity([shape], ([x]) =>
      rotary(x as tf.Tensor4D, { start: 1_000_003, frequencies, style }),
    );
    const positions = Int32Array.from({ length: 22 }, (_, i) => (i * 7919) % 5000);
    await assertOpParity([shape], ([x]) => rotary(x as tf.Tensor4D, { positions, frequencies, style }));
  });

test('embedding sums the gradients of repeated ids', () =>
  assertOpParity([[13, 21]], ([weight]) => {
    const ids = tf.tensor2d([0, 12, 5, 5, 5, 1], [2, 3], 'int32');
    return embedding(weight, ids, 1.7);
  }));

test.run();
