import type { Engine } from '../engines/engine.js';

export interface Repetitions {
  /** Runs that are not counted: they load, compile and warm what later runs find ready. */
  warmUp: number;
  repetitions: number;
}

/** Seconds of each counted run of `work`, the engine's queued work included. */
export async function timeRuns(
  engine: Engine,
  { warmUp, repetitions }: Repetitions,
  work: () => void,
): Promise<number[]> {
  const seconds: number[] = [];
  for (let run = 0; run < warmUp + repetitions; run++) {
    const elapsed = await timeOnce(engine, work);
    if (run >= warmUp) seconds.push(elapsed);
  }
  return seconds;
}

/** Seconds from an idle engine to an idle engine. */
export async function timeOnce(engine: Engine, work: () => void): Promise<number> {
  await engine.synchronize();
  const started = performance.now();
  work();
  await engine.synchronize();
  return (performance.now() - started) / 1000;
}
