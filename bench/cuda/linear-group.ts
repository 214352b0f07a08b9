/**
 * Projections of one x in bfloat16: one product each, as one group, and the gradients of the group, kernel by kernel. Prints
 * microseconds of a call.
 */
import { startCuda } from '../../src/engines/cuda/index.js';
import { linear, linearGroup } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { callTimes } from './kernel-times.js';

/** Rows, inner width, widths of the weights. */
const SHAPES = {
  '160m, retention': [32_768, 768, [768, 768, 768, 768, 3]],
  '160m, attention': [32_768, 768, [768, 768, 768]],
  '160m, SwiGLU': [32_768, 768, [2304, 2304]],
  '1.4b, retention': [8192, 2048, [2048, 2048, 2048, 2048, 8]],
  '1.4b, SwiGLU': [8192, 2048, [5632, 5632]],
  'tiny, retention': [8192, 256, [256, 256, 256, 256, 4]],
  'tiny, SwiGLU': [8192, 256, [768, 768]],
  'yoco-3b, prefill, retention': [8192, 3072, [3072, 3072, 3072, 3072, 24]],
  'yoco-3b, prefill, SwiGLU': [8192, 3072, [8192, 8192]],
} as const;
const RUNS = 20;
/** Milliseconds of copies ahead, for the host to get ahead. */
const BACKLOG = 40;

await startCuda({ storage: 'bfloat16' });

function report(title: string, work: () => tf.Tensor[]): void {
  const times = callTimes(work, { runs: RUNS, backlog: BACKLOG });
  const each = (milliseconds: number): string => ((1000 * milliseconds) / RUNS).toFixed(1);
  const total = times.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  process.stdout.write(`${title}: ${each(total)} µs\n`);
  for (const { name, count, milliseconds } of times) {
    process.stdout.write(`  ${each(milliseconds)} µs in ${count / RUNS}: ${name}\n`);
  }
}

for (const [name, [rows, inner, widths]] of Object.entries(SHAPES)) {
  const x = tf.randomNormal([rows, inner]);
  const weights = widths.map((width) => tf.randomNormal([width, inner], 0, inner ** -0.5));
  const dys = widths.map((width) => tf.randomNormal([rows, width]));
  report(`${name}: one by one`, () => weights.map((weight) => linear(x, weight)));
  report(`${name}: group`, () => linearGroup(x, weights));
  report(`${name}: gradients of the weights one by one`, () => dys.map((dy) => tf.matMul(dy, x, true)));
  const numbered = (word: string, tensors: readonly tf.Tensor[]): Record<string, tf.Tensor> =>
    Object.fromEntries(tensors.map((tensor, i) => [`${word}${i}`, tensor]));
  const inputs = { x, ...numbered('weight', weights), ...numbered('dy', dys) };
  report(`${name}: gradients of the group`, () =>
    tf.engine().runKernel<tf.Tensor[]>('LinearGroupGrad', inputs, { count: widths.length }),
  );
  tf.dispose([x, ...weights, ...dys]);
}
