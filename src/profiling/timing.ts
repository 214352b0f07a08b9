import type { Engine } from '../engines/engine.js';
import type { Row } from '../results/schema.js';
import { summarize } from './statistics.js';

/** Seconds of each of `count` runs of `work`, from an idle engine to an idle engine. */
export async function timeRuns(engine: Engine, count: number, work: () => void): Promise<number[]> {
  const seconds: number[] = [];
  for (let run = 0; run < count; run++) {
    await engine.synchronize();
    const started = performance.now();
    work();
    await engine.synchronize();
    seconds.push((performance.now() - started) / 1000);
  }
  return seconds;
}

/** The columns `SECONDS_COLUMNS` of the tables. */
export function secondsCells(seconds: readonly number[]): Row {
  const { median, mean, deviation, min, max } = summarize(seconds);
  return {
    repetitions: seconds.length,
    seconds_median: median,
    seconds_mean: mean,
    seconds_sd: deviation,
    seconds_min: min,
    seconds_max: max,
  };
}
