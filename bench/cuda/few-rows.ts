/**
 * The products of one decoded token: each shape over enough different weights that none is in a cache, as CUDA graphs without
 * and with overlap of kernels, and chained. Prints the bytes of weights read per second.
 */
import { cudaRecorder } from '../../src/engines/cuda/recorder.js';
import { startCuda } from '../../src/engines/cuda/index.js';
import { linearGroup } from '../../src/ops/index.js';
import { copyRate } from '../../src/profiling/copy-rate.js';
import { median } from '../../src/sweep/statistics.js';
import * as tf from '../../src/tf.js';
import { cudaBackend } from './kernel-times.js';

/** [inner, widths of the weights that share x]: query, gate and up, down, retention's projections, the head of yoco-3b. */
const SHAPES: readonly (readonly [number, readonly number[]])[] = [
  [3072, [3072]],
  [3072, [8192, 8192]],
  [8192, [3072]],
  [3072, [3072, 3072, 3072, 3072, 12]],
  [3072, [100288]],
];
/** Bytes of all weights of a shape. */
const BYTES = 2 ** 30;
const RUNS = 9;
const MODES = [{ early: false, chained: false }, { chained: false }, {}];

const engine = await startCuda({ storage: 'bfloat16' });
const backend = cudaBackend();
process.stdout.write(`copy: ${((await copyRate(engine)) / 1e12).toFixed(2)} TB/s read and written\n`);
for (const [inner, widths] of SHAPES) {
  const bytes = 2 * inner * widths.reduce((sum, width) => sum + width, 0);
  const groups = Array.from({ length: Math.max(2, Math.round(BYTES / bytes)) }, () =>
    widths.map((width) => tf.fill([width, inner], 0.01)),
  );
  const x = tf.randomNormal([1, 1, inner]);
  const rates = MODES.map((mode) => {
    const recorded = cudaRecorder(backend, mode).record({
      position: 1,
      inputShape: [1],
      carried: () => [],
      compute: () => {
        const outs = groups.map((weights) => linearGroup(x, weights)[0] as tf.Tensor);
        return tf.reshape(outs.at(-1) as tf.Tensor, [-1]);
      },
    });
    if (recorded === null) return NaN;
    const input = tf.tensor1d([1], 'int32');
    const run = (): void => {
      recorded.run(input, 1).dispose();
    };
    const times = Array.from({ length: RUNS }, () => backend.device.time(run));
    recorded.dispose();
    return (groups.length * bytes) / (median(times) / 1000);
  });
  const [plain = NaN, early = NaN, chained = NaN] = rates.map((rate) => rate / 1e12);
  const each = rates.map((rate) => ((1e6 * bytes) / rate).toFixed(1)).join(' / ');
  process.stdout.write(
    `${inner} → ${widths.join(' + ')}: ${plain.toFixed(2)} TB/s, overlapping ${early.toFixed(2)}, ` +
      `chained ${chained.toFixed(2)} (${each} µs)\n`,
  );
  tf.dispose([x, ...groups.flat()]);
}
