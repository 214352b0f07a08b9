import type { Engine } from '../engines/engine.js';

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
