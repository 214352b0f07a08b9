/** More blocks in y or z than the hardware takes: sums of integers, which every storage has exactly. */
import * as assert from 'uvu/assert';
import { gatedRetention } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { gpuSuite } from './gpu.js';

const onGpu = await gpuSuite('large grids', { storage: 'bfloat16' });

const MANY = 65_537;

onGpu('sums over the middle of many blocks', () => {
  const sums = tf.tidy(() => {
    const values = Float32Array.from({ length: MANY * 3 * 2 }, (_, i) => i % 7);
    return tf.sum(tf.tensor3d(values, [MANY, 3, 2]), 1).arraySync() as number[][];
  });
  for (const row of [0, 1, 65_534, 65_535, 65_536]) {
    const sum = (column: number): number =>
      [0, 1, 2].reduce((total, middle) => total + ((6 * row + 2 * middle + column) % 7), 0);
    assert.equal(sums[row], [sum(0), sum(1)], `row ${row}`);
  }
});

onGpu('a step of many sequences', () => {
  const alike = tf.tidy(() => {
    const [q, k, v] = [0, 1, 2].map((seed) =>
      tf.randomNormal<tf.Rank.R4>([1, 1, 2, 8], 0, 1, 'float32', seed),
    );
    const decay = tf.fill<tf.Rank.R3>([1, 1, 2], -0.5);
    const many = <R extends tf.Rank>(x: tf.Tensor<R>): tf.Tensor<R> =>
      tf.tile(x, [MANY, ...x.shape.slice(1).map(() => 1)]);
    const outputs = [1, MANY].map((count) => {
      const of = <R extends tf.Rank>(x: tf.Tensor<R>): tf.Tensor<R> => (count === 1 ? x : many(x));
      return gatedRetention(of(q as tf.Tensor4D), of(k as tf.Tensor4D), of(v as tf.Tensor4D), of(decay))
        .output;
    });
    return tf.all(tf.equal(...(outputs as [tf.Tensor, tf.Tensor]))).dataSync()[0];
  });
  assert.is(alike, 1);
});

onGpu.run();
