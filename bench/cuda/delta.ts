/**
 * The gated delta rule in a layer of yoco-3b's width, bfloat16, beside gated retention: forward by number of positions, and forward and
 * gradient together. Prints milliseconds, the median of a few runs.
 */
import { startCuda } from '../../src/engines/cuda/index.js';
import { gatedDeltaRule, gatedRetention } from '../../src/ops/index.js';
import { median } from '../../src/sweep/statistics.js';
import * as tf from '../../src/tf.js';
import { cudaBackend } from './kernel-times.js';

const [HEADS, WIDTH, RUNS] = [24, 128, 5];
/** Up to 64 positions in one call take the recurrence. */
const LENGTHS = [64, 128, 1024, 8192];
const GRADIENT_LENGTHS = [1024, 2048, 8192];

await startCuda({ storage: 'bfloat16' });
const backend = cudaBackend();

type Operands = [q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, decay: tf.Tensor3D, beta: tf.Tensor3D];

function operands(time: number): Operands {
  const rows = (): tf.Tensor4D => tf.randomNormal([1, time, HEADS, WIDTH]);
  const gates = (from: number, to: number): tf.Tensor3D => tf.randomUniform([1, time, HEADS], from, to);
  return [rows(), rows(), rows(), gates(-0.3, 0), gates(0, 1)];
}

const SCALES = { queryScale: 1 / WIDTH, keyScale: WIDTH ** -0.5 };
const OPS: Readonly<Record<string, (...inputs: Operands) => tf.Tensor>> = {
  'delta rule': (q, k, v, decay, beta) => gatedDeltaRule(q, k, v, decay, beta, SCALES).output,
  retention: (q, k, v, decay) => gatedRetention(q, k, v, decay).output,
};

function milliseconds(work: () => tf.Tensor | tf.Tensor[]): number {
  const times = Array.from({ length: RUNS + 1 }, () =>
    backend.device.time(() => {
      tf.dispose(tf.tidy(work));
    }),
  );
  return median(times.slice(1));
}

/** A line with the time of each op. */
function print(
  what: string,
  time: number,
  work: (op: (...inputs: Operands) => tf.Tensor, inputs: Operands) => tf.Tensor | tf.Tensor[],
): void {
  const inputs = operands(time);
  const times = Object.entries(OPS).map(
    ([name, op]) => `${name} ${milliseconds(() => work(op, inputs)).toFixed(3)} ms`,
  );
  process.stdout.write(`${what}, ${time} positions: ${times.join(', ')}\n`);
  tf.dispose(inputs);
}

for (const time of LENGTHS) print('forward', time, (op, inputs) => op(...inputs));
for (const time of GRADIENT_LENGTHS)
  print('forward and gradient', time, (op, inputs) =>
    // What an op does not take is added, so that all have a gradient.
    tf.grads((...tensors) => tf.add(tf.sum(op(...(tensors as Operands))), tf.sum(tensors[4] as tf.Tensor)))(
      inputs,
    ),
  );
