import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sourceBatch } from '../../../src/engines/cuda/kernels/matmul.js';
import * as tf from '../../../src/tf.js';

const test = suite('cuda matmul without a GPU');
test.before(() => tf.setBackend('cpu').then(() => undefined));

test('a broadcast batch is made of the matrices that broadcasting names', () => {
  const extents = fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.boolean()), { maxLength: 4 });
  fc.assert(
    fc.property(extents, fc.nat(4), (dimensions, missing) => {
      const outer = dimensions.map(([extent]) => extent);
      const shape = dimensions.map(([extent, single]) => (single ? 1 : extent)).slice(missing);
      const count = shape.reduce((product, extent) => product * extent, 1);
      const numbered = tf.broadcastTo(tf.reshape(tf.range(0, count), shape), outer);
      const expected = Array.from(numbered.dataSync());
      assert.equal(
        expected.map((_, i) => sourceBatch(i, outer, shape)),
        expected,
      );
    }),
  );
});

test.run();
