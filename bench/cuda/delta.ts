/**
 * The gated delta rule in a layer of yoco-3b's width, bfloat16: its forward kernels by number of positions, and forward and gradient
 * together. Prints milliseconds, the median of a few runs.
 */
import { startCuda } from '../../src/engines/cuda/index.js';
import { gatedDeltaRule } from '../../src/ops/index.js';
import { median } from '../../src/sweep/statistics.js';
import * as tf from '../../src/tf.js';
import { cudaBackend } from './kernel-times.js';

const [HEADS, WIDTH, RUNS] = [24, 128, 5];
/** Up to 64 positions in one call take the recurrence. */
const LENGTHS = [64, 128, 1024, 8192];
const GRADIENT_LENGTHS = [1024, 2048];

await startCuda({ storage: 'bfloat16' });
const backend = cudaBackend();

function operands(time: number): tf.Tensor[] {
  const rows = (): tf.Tensor => tf.randomNormal([1, time, HEADS, WIDTH]);
  const gates = (from: number, to: number): tf.Tensor => tf.randomUniform([1, time, HEADS], from, to);
  return [rows(), rows(), rows(), gates(-0.3, 0), gates(0, 1)];
}

function rule(...[q, k, v, decay, beta]: tf.Tensor[]): tf.Tensor4D {
  const options = { queryScale: 1 / WIDTH, keyScale: WIDTH ** -0.5 };
  const heads = [q, k, v] as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D];
  return gatedDeltaRule(...heads, decay as tf.Tensor3D, beta as tf.Tensor3D, options).output;
}

function milliseconds(work: () => tf.Tensor | tf.Tensor[]): number {
  const times = Array.from({ length: RUNS + 1 }, () =>
    backend.device.time(() => {
      tf.dispose(tf.tidy(work));
    }),
  );
  return median(times.slice(1));
}

for (const time of LENGTHS) {
  const inputs = operands(time);
  process.stdout.write(`forward, ${time} positions: ${milliseconds(() => rule(...inputs)).toFixed(3)} ms\n`);
  tf.dispose(inputs);
}
for (const time of GRADIENT_LENGTHS) {
  const inputs = operands(time);
  const gradients = tf.grads((...tensors) => tf.sum(rule(...tensors)));
  process.stdout.write(
    `forward and gradient, ${time}: ${milliseconds(() => gradients(inputs)).toFixed(3)} ms\n`,
  );
  tf.dispose(inputs);
}
