import type { Engine } from '../engines/engine.js';
import { summarize } from '../sweep/statistics.js';

/**
 * Seconds of each of `count` runs of `work`, which may be asynchronous, from an idle engine to an idle engine.
 * @param after called with the number of the run, from 0, and not timed
 */
export async function timeRuns(
  engine: Engine,
  count: number,
  work: () => unknown,
  after?: (run: number) => Promise<void>,
): Promise<number[]> {
  const seconds: number[] = [];
  for (let run = 0; run < count; run++) {
    await engine.synchronize();
    const started = performance.now();
    await work();
    await engine.synchronize();
    seconds.push((performance.now() - started) / 1000);
    await after?.(run);
  }
  return seconds;
}

/**
 * Seconds from each thing that `start` gives to the next, the first from an idle engine.
 * @param take called with each
 */
export async function timeEach<T>(
  engine: Engine,
  start: () => AsyncIterable<T>,
  take: (given: T) => void = () => undefined,
): Promise<number[]> {
  const seconds: number[] = [];
  await engine.synchronize();
  let before = performance.now();
  for await (const given of start()) {
    const now = performance.now();
    seconds.push((now - before) / 1000);
    before = now;
    take(given);
  }
  return seconds;
}

/** Statistics of repeated timings, in seconds. */
export interface SecondsFigures {
  readonly repetitions: number;
  readonly secondsMedian: number;
  readonly secondsMean: number;
  /** Sample standard deviation; null for a single run. */
  readonly secondsSd: number | null;
  readonly secondsMin: number;
  readonly secondsMax: number;
}

export function secondsFigures(seconds: readonly number[]): SecondsFigures {
  const { median, mean, deviation, min, max } = summarize(seconds);
  return {
    repetitions: seconds.length,
    secondsMedian: median,
    secondsMean: mean,
    secondsSd: deviation,
    secondsMin: min,
    secondsMax: max,
  };
}
