/**
 * Bandwidth of collectives between GPUs, started once for each: `torchrun --no-python --nproc-per-node N node --import tsx
 * bench/cuda/collectives.ts DIRECTORY`. Bus bandwidth as nccl-tests defines it: what each link carries, whatever the ranks.
 */
import { median } from '../../src/sweep/statistics.js';
import * as tf from '../../src/tf.js';
import { openSession } from './session.js';

const SIZES = [2 ** 11, 2 ** 20, 2 ** 26, 2 ** 30];
const [RUNS, WARM_UP] = [7, 3];
/** Seconds that a run should take at least, and the most calls in it. */
const [LEAST_SECONDS, MOST_CALLS] = [0.02, 200];

const schema = {
  name: 'collectives',
  columns: [
    { name: 'collective', kind: 'key', description: 'what is called' },
    { name: 'bytes', kind: 'key', description: 'of the whole tensor, bfloat16' },
    { name: 'ranks', kind: 'result', description: 'GPUs' },
    { name: 'seconds', kind: 'timing', description: 'of one call in a row of many, median', digits: 9 },
    {
      name: 'bus_bytes_per_second',
      kind: 'timing',
      description: 'bytes over seconds, times 2 (N - 1) / N for all-reduce and (N - 1) / N for the others',
      digits: 0,
    },
  ],
} as const;

const { engine, table, communicator } = await openSession(schema, {
  configuration: null,
  constants: { runs: RUNS, warmUp: WARM_UP, sizes: SIZES },
});
const { size } = communicator;

/** Seconds from all ranks idle to all idle, of `calls` in a row. */
async function time(call: () => tf.Tensor, calls: number): Promise<number> {
  await engine.synchronize();
  communicator.barrier();
  const began = performance.now();
  for (let i = 0; i < calls; i++) call().dispose();
  await engine.synchronize();
  return (performance.now() - began) / 1000;
}

for (const bytes of SIZES) {
  const whole = tf.tidy(() => tf.reshape<tf.Rank.R1>(tf.tile(tf.randomNormal([1024]), [bytes / 2048]), [-1]));
  const part = tf.slice(whole, [0], [whole.size / size]);
  const share = (size - 1) / size;
  const calls: [string, () => tf.Tensor, number][] = [
    ['all-reduce', () => communicator.allReduce(whole), 2 * share],
    ['reduce-scatter', () => communicator.reduceScatter(whole), share],
    ['all-gather', () => communicator.allGather(part), share],
  ];
  for (const [collective, call, factor] of calls) {
    for (let i = 0; i < WARM_UP; i++) await time(call, 1);
    // The first rank's clock decides for all.
    const [once] = communicator.gather(await time(call, 1)) as number[];
    const count = Math.min(MOST_CALLS, Math.ceil(LEAST_SECONDS / (once ?? 1)));
    const runs: number[] = [];
    for (let i = 0; i < RUNS; i++) runs.push((await time(call, count)) / count);
    const seconds = median(runs);
    const bus = (bytes * factor) / seconds;
    table.append({ collective, bytes, ranks: size, seconds, bus_bytes_per_second: bus, status: 'ok' });
    if (communicator.rank === 0) {
      process.stdout.write(
        `${collective} ${bytes} bytes: ${(seconds * 1e6).toFixed(1)} us, bus ${(bus / 1e9).toFixed(1)} GB/s\n`,
      );
    }
  }
  tf.dispose([whole, part]);
}
table.close();
communicator.close();
