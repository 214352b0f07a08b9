/** Timing for comparisons: what is compared runs in turn, so that a busy moment of the machine strikes both. */

export interface Timing {
  /** Milliseconds per run. */
  readonly median: number;
  readonly fastest: number;
  readonly slowest: number;
}

function elapsed(task: () => void): number {
  const start = performance.now();
  task();
  return performance.now() - start;
}

function summarise(times: number[]): Timing {
  const sorted = [...times].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [low, high] = [sorted[Math.ceil(sorted.length / 2) - 1] ?? NaN, sorted[middle] ?? NaN];
  return { median: (low + high) / 2, fastest: sorted[0] ?? NaN, slowest: sorted.at(-1) ?? NaN };
}

/** Runs every task once to warm up, then all of them in turn, `repetitions` times. */
export function alternate<Name extends string>(
  tasks: Readonly<Record<Name, () => void>>,
  repetitions: number,
): Record<Name, Timing> {
  const names = Object.keys(tasks) as Name[];
  for (const name of names) tasks[name]();
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let i = 0; i < repetitions; i++) for (const name of names) times[name].push(elapsed(tasks[name]));
  return Object.fromEntries(names.map((name) => [name, summarise(times[name])])) as Record<Name, Timing>;
}

/** One line of the table: a rate, the rate it is held against, and the least ratio wanted. */
export interface Row {
  readonly what: string;
  readonly rate: number;
  readonly unit: string;
  readonly against: string;
  readonly reference: number;
  /** `null` where the ratio is for information. */
  readonly target: number | null;
}

/** GFLOP/s. */
export function gigaflops(operations: number, milliseconds: number): number {
  return operations / milliseconds / 1e6;
}
