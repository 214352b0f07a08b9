/** On a GPU: kernels that rotate what they read. */
import { KeyValuePages, pagedAttention, rotatedRetention } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { TOLERANCE } from '../relative-error.js';
import { compare, gpuSuite } from './gpu.js';

type T3 = tf.Tensor3D;
type T4 = tf.Tensor4D;

for (const storage of ['float32', 'bfloat16', 'float16'] as const) {
  const test = await gpuSuite(`cuda kernels that rotate, ${storage}`, { storage, seed: 31 });
  const tolerance = TOLERANCE[storage];

  test('queries rotated on the way to pages', async (inputs) => {
    for (const style of ['interleaved', 'half'] as const) {
      // Few queries in one launch; many, and heads that are padded.
      for (const [queries, keys, width] of [
        [1, 1, 32],
        [1, 3000, 128],
        [5, 777, 64],
        [40, 200, 64],
        [2, 90, 36],
      ] as const) {
        const frequencies = Float64Array.from({ length: width / 2 }, (_, i) => 10000 ** (-2 * i / width)); // prettier-ignore
        const rotation = { start: 1_000_000, frequencies, style };
        const kv = [1, keys, 2, width];
        const operands = [inputs.normal([1, queries, 6, width], 1.5), inputs.normal(kv), inputs.normal(kv)];
        await compare(`PagedAttention, rotated, ${queries} ${width}`, tolerance, operands, (q, k, v) => {
          const pages = new KeyValuePages({ batch: 1, kvHeads: 2, headDim: width, pageSize: 256 });
          // All at once, and the last few by a kernel that rotates them.
          const few = Math.min(5, keys);
          const part = (x: tf.Tensor, start: number, count: number): T4 =>
            tf.slice(x as T4, [0, start, 0, 0], [1, count, 2, width]);
          for (const [start, count] of [
            [0, keys - few],
            [keys - few, few],
          ] as const) {
            if (count > 0)
              pages.append(part(k, start, count), part(v, start, count), {
                ...rotation,
                start: 999_000 + start,
              });
          }
          const out = pagedAttention(q as T4, pages, { rotation });
          pages.dispose();
          return [out];
        });
      }
    }
  });

  test('gated retention from its projections', async (inputs) => {
    for (const style of ['interleaved', 'half'] as const) {
      for (const [time, keyWidth, valueWidth, withState] of [
        [1, 128, 128, true],
        [1, 256, 33, false],
        [7, 50, 70, true],
        [16, 24, 8, false],
        [2, 258, 40, true],
        [30, 64, 64, true],
      ] as const) {
        const frequencies = Float64Array.from({ length: keyWidth / 2 }, (_, i) => 10000 ** (-2 * i / keyWidth)); // prettier-ignore
        const rotation = { start: 1_000_000, frequencies, style };
        const keys = [2, time, 3, keyWidth];
        const operands = [
          inputs.normal(keys),
          inputs.normal(keys),
          inputs.normal([2, time, 3, valueWidth]),
          inputs.normal([2, time, 3], 4),
          ...(withState ? [inputs.normal([2, 3, keyWidth, valueWidth])] : []),
        ];
        await compare(`RotatedRetention ${time} ${keyWidth}`, tolerance, operands, (q, k, v, gate, state) => {
          const options = { rotation, normalizer: 16, state: state as T4 | undefined };
          const retained = rotatedRetention(q as T4, k as T4, v as T4, gate as T3, options);
          return [retained.output, retained.state];
        });
      }
    }
  });

  test.run();
}
