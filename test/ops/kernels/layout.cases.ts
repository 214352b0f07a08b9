/** Standard tfjs kernels that move elements. */
import * as tf from '../../../src/tf.js';
import type { KernelCase } from './contract.js';

const PERMUTATIONS = [[0, 2, 1, 3], [3, 2, 1, 0], [0, 1, 3, 2], [1, 0, 2, 3], [0, 1, 2, 3], [2, 3, 0, 1]]; // prettier-ignore

const CASES: readonly KernelCase[] = [
  {
    name: 'transposes',
    inputs: (make) => [make.normal([3, 11, 5, 13]), make.normal([1, 40, 1, 50])],
    compute: (x, thin) => [
      ...PERMUTATIONS.map((permutation) => tf.transpose(x, permutation)),
      tf.transpose(thin, [2, 3, 0, 1]),
      tf.transpose(thin, [2, 1, 0, 3]),
    ],
  },
  {
    name: 'slices and strided slices',
    inputs: (make) => [make.normal([7, 20, 30])],
    compute: (x) => [
      tf.slice(x, [1, 2, 3], [5, 11, -1]), tf.slice(x, 2), tf.slice(x, [2, 3], [1, 10]), tf.slice(x, [0, 2, 0], [7, 4, 30]),
      tf.stridedSlice(x, [0, 0, 0], [7, 20, 30], [2, 3, 1]), tf.stridedSlice(x, [0, 19, 1], [6, 0, 16], [2, -3, 4]),
    ], // prettier-ignore
    except: { webgpu: 'tfjs has no negative strides there' },
  },
  {
    name: 'splits and unstacking, whose memory is used again',
    inputs: (make) => [make.normal([7, 20, 30])],
    compute: (x) => {
      const rows = tf.tidy(() => tf.unstack(tf.mul(x, 2), 0));
      tf.mul(x, 3).dispose();
      return [...rows, ...tf.split(x, 2, 2), ...tf.split(x, [2, 4, 1], 0), ...tf.unstack(x, 1).slice(2, 4)];
    },
  },
  {
    name: 'concat, stack, pad, tile, reverse',
    inputs: (make) => [make.normal([4, 30, 20]), make.normal([4, 17, 20])],
    compute: (a, b) => [
      tf.concat([a, b], 1), tf.concat([a, tf.slice(a, [0, 0, 0], [4, 30, 3])], -1), tf.concat([a, tf.zeros([0, 30, 20])], 0),
      tf.pad(a, [[1, 0], [0, 3], [2, 2]], 5), tf.stack([a, a]), tf.stack([a, a], 1), tf.tile(a, [2, 1, 3]),
      tf.reverse(a, [0, 2]), tf.broadcastTo(tf.slice(a, [0, 0, 0], [4, 1, 20]), [4, 10, 20]), tf.expandDims(a, 1),
    ], // prettier-ignore
  },
  {
    name: 'gather, one-hot, ranges and fills',
    inputs: (make) => [make.normal([6, 30, 20]), make.integers([9], 6), make.integers([2, 2], 6)],
    compute: (x, ids, pairs) => [
      tf.gather(x, ids.cast('int32')), tf.gather(x, ids.cast('int32'), 1), tf.gather(x, pairs.cast('int32')),
      tf.oneHot(pairs.cast('int32'), 300), tf.range(0, 10, 3), tf.fill([60, 60], 2.5), tf.cast(tf.mul(x, 8), 'int32'),
    ], // prettier-ignore
  },
  {
    name: 'empty tensors',
    inputs: () => [],
    compute: () => {
      const x = tf.zeros([0, 40]);
      return [tf.add(x, x), tf.matMul(x, tf.ones([40, 50])), tf.sum(x), tf.concat([x, tf.ones([30, 40])], 0)];
    },
    except: { webgpu: 'its buffers cannot be empty' },
  },
];

export const LAYOUT_CASES: readonly KernelCase[] = CASES.map((item) => ({ ...item, exact: true }));
