/**
 * Gated retention in bfloat16, in a layer of yoco-3b's prefill (a chunk of 8,192) and of training: the kernels of the forward pass, and
 * of it and the gradient, one by one. Prints microseconds of a call.
 */
import { startCuda } from '../../src/engines/cuda/index.js';
import { gatedRetention } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { callTimes } from './kernel-times.js';

/** Batch, positions, heads, width. */
const SHAPES = {
  'yoco-3b, prefill': [1, 8192, 24, 128],
  'tiny, training': [32, 2048, 4, 64],
  '160m, training': [16, 2048, 3, 256],
  '830m, training': [8, 2048, 6, 256],
  '1.4b, training': [4, 2048, 8, 256],
} as const;
const RUNS = 20;
/** Milliseconds of copies ahead, for the host to get ahead. */
const BACKLOG = 40;

await startCuda({ storage: 'bfloat16' });

function report(title: string, work: () => tf.Tensor | tf.Tensor[]): void {
  const times = callTimes(work, { runs: RUNS, backlog: BACKLOG });
  const each = (milliseconds: number): string => ((1000 * milliseconds) / RUNS).toFixed(1);
  const total = times.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const parts = times.map(({ name, milliseconds }) => `${name} ${each(milliseconds)}`);
  process.stdout.write(`${title}: ${each(total)} µs (${parts.join(', ')})\n`);
}

for (const [name, shape] of Object.entries(SHAPES)) {
  const [batch, time, heads] = shape;
  const rows = (): tf.Tensor4D => tf.randomNormal([...shape]);
  const [q, k, v, dy] = [rows(), rows(), rows(), rows()];
  const decay = tf.randomUniform<tf.Rank.R3>([batch, time, heads], -0.3, 0);
  const retained = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, decay: tf.Tensor): tf.Tensor =>
    gatedRetention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, decay as tf.Tensor3D).output;
  report(`forward, ${name}`, () => retained(q, k, v, decay));
  report(`forward and gradient, ${name}`, () => tf.grads(retained)([q, k, v, decay], dy));
  tf.dispose([q, k, v, dy, decay]);
}
