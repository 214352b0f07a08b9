import { suite } from 'uvu';
import { reshape } from '../../src/ops/index.js';
import { usePlainBackend } from '../plain-backend.js';
import { compareOp } from './compare.js';

const test = suite('ops: reshape');
test.before(usePlainBackend);

test('reshape keeps values and gradients in order', () => {
  compareOp({
    shapes: [[2, 6]],
    op: (x) => [reshape(x, [3, 4])],
    reference: (x) => [{ shape: [3, 4], data: x.data }],
  });
});

test.run();
