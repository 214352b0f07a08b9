import type { Engine } from '../engines/engine.js';
import { summarize } from '../sweep/statistics.js';

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
