/**
 * More blocks in y or z than the hardware takes: sums of integers, which every storage has exactly. And shares of the work that depend
 * on how much there is, which must not show.
 */
import * as assert from 'uvu/assert';
import { causalAttention, gatedRetention } from '../../../src/ops/index.js';
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

for (const [width, window] of [
  [64, null],
  [64, 100],
  [128, null],
  [128, 100],
] as const) {
  onGpu(`attention of many sequences, heads of ${width}${window === null ? '' : ' with a window'}`, () => {
    const [alone = [], together = []] = [1, 264].map((count) =>
      tf.tidy(() => {
        const [q, k, v, dy] = [2, 1, 1, 2].map((heads, seed) =>
          tf.tile(tf.randomNormal([1, 330, heads, width], 0, 1, 'float32', 1 + seed), [count, 1, 1, 1]),
        ) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
        const attend = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor): tf.Tensor =>
          causalAttention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, { window });
        return [attend(q, k, v), ...tf.grads(attend)([q, k, v], dy)];
      }),
    );
    alone.forEach((one, i) => {
      const same = tf.tidy(() => tf.all(tf.equal(one, together[i] as tf.Tensor)).dataSync()[0]);
      assert.is(same, 1, ['out', 'dq', 'dk', 'dv'][i]);
    });
    tf.dispose([alone, together]);
  });
}

onGpu.run();
