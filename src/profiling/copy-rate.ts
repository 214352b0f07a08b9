import type { Engine } from '../engines/engine.js';
import * as tf from '../tf.js';
import { ELEMENT_BYTES } from '../sweep/memory-budget.js';
import { median } from '../sweep/statistics.js';
import { timeRuns } from './timing.js';

/** The tensor copied: too large for every cache on a chip, and for the start of a copy to count; small for the memory. */
const LARGEST_BYTES = 2 ** 31;
const SHARE_OF_MEMORY = 1 / 64;
const RUNS = 5;
/** Seconds that a run should take at least, so that waiting for the engine does not count, and the most copies in it. */
const [LEAST_SECONDS, MOST_COPIES] = [0.02, 64];

/**
 * Bytes that the engine reads and writes per second when it copies a large tensor: what its memory gives. The faster of
 * joining two halves, which moves bytes, and adding zero, a kernel that may run on several threads.
 */
export async function copyRate(engine: Engine): Promise<number> {
  const elementBytes = ELEMENT_BYTES[engine.storage];
  const bytes = Math.min(LARGEST_BYTES, SHARE_OF_MEMORY * engine.availableBytes());
  const half = tf.fill([Math.floor(bytes / elementBytes / 2)], 1);
  const whole = tf.concat([half, half]);
  const moved = 2 * whole.size * elementBytes;
  const rates: number[] = [];
  for (const copy of [() => tf.concat([half, half]), () => tf.add(whole, 0)]) {
    rates.push(moved / (await secondsOf(engine, copy)));
  }
  tf.dispose([half, whole]);
  return Math.max(...rates);
}

/** Seconds of one of many copies in a row. */
async function secondsOf(engine: Engine, copy: () => tf.Tensor): Promise<number> {
  const time = (count: number, runs: number): Promise<number[]> =>
    timeRuns(engine, runs, () => {
      for (let i = 0; i < count; i++) copy().dispose();
    });
  // The first run may compile the kernel.
  const [, first = 0] = await time(1, 2);
  const count = Math.min(MOST_COPIES, Math.ceil(LEAST_SECONDS / first));
  return median(await time(count, RUNS)) / count;
}
