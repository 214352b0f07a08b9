/**
 * SwiGLU of many rows in bfloat16, as one op and as products of cuBLASLt with a kernel behind them. Prints microseconds of a call, and
 * TFLOP/s of which the products alone are counted, after a rest and after seconds of the same, when power limits the card.
 */
import { setTimeout } from 'node:timers/promises';
import { startCuda } from '../../src/engines/cuda/index.js';
import { linearGroup, linearSwiglu, swiglu } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { callTimes } from './kernel-times.js';

/** Rows, inner width, width of each weight. */
const SHAPES = {
  'yoco-3b, prefill': [8192, 3072, 8192],
  '1.4b': [8192, 2048, 5632],
  '160m': [32_768, 768, 2304],
} as const;
const RUNS = 20;
/** What is timed as sustained comes after as many calls twice, for some seconds in all. */
const SUSTAINED_FLOPS = 1e15;
/** Milliseconds of copies ahead, for the host to get ahead. */
const BACKLOG = 40;

await startCuda({ storage: 'bfloat16' });

/** Milliseconds of a call. */
function timeOf(work: () => tf.Tensor, runs: number): number {
  const times = callTimes(work, { runs, backlog: BACKLOG });
  return times.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / runs;
}

for (const [name, [rows, inner, width]] of Object.entries(SHAPES)) {
  const x = tf.randomNormal([rows, inner]);
  const [activated, gate] = [0, 1].map(() => tf.randomNormal([width, inner], 0, inner ** -0.5)) as [
    tf.Tensor,
    tf.Tensor,
  ];
  const flops = 4 * rows * inner * width;
  const ways = {
    'one op': () => linearSwiglu(x, activated, gate),
    'products, then SwiGLU': () => swiglu(...(linearGroup(x, [activated, gate]) as [tf.Tensor, tf.Tensor])),
  };
  for (const [way, work] of Object.entries(ways)) {
    timeOf(work, 1); // compiled and tuned
    await setTimeout(1000);
    const burst = timeOf(work, RUNS);
    const runs = Math.ceil(SUSTAINED_FLOPS / flops);
    const sustained = [0, 1, 2].map(() => timeOf(work, runs)).at(-1) ?? NaN;
    const each = [burst, sustained].map(
      (ms) => `${(1000 * ms).toFixed(1)} µs, ${((flops / ms) * 1e-9).toFixed(0)} TFLOP/s`,
    );
    process.stdout.write(`${name}, ${way}: ${each.join('; sustained ')}\n`);
  }
  tf.dispose([x, activated, gate]);
}
