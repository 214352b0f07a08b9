/** What repeated measurements come to. */
export interface Summary {
  median: number;
  mean: number;
  /** Sample standard deviation (n - 1); null for a single measurement. */
  deviation: number | null;
  min: number;
  max: number;
}

export const mean = (samples: readonly number[]): number =>
  samples.reduce((sum, value) => sum + value, 0) / samples.length;

/** The least of any number of values: spread into `Math.min`, more than 120,000 overflow the stack. Infinity for none. */
export const least = (values: readonly number[]): number => values.reduce((a, b) => Math.min(a, b), Infinity);

/** The greatest of any number of values; -Infinity for none. */
export const greatest = (values: readonly number[]): number =>
  values.reduce((a, b) => Math.max(a, b), -Infinity);

export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? NaN;
  return Number.isInteger(middle) ? ((sorted[middle - 1] ?? NaN) + upper) / 2 : upper;
}

export function summarize(samples: readonly number[]): Summary {
  const n = samples.length;
  const center = mean(samples);
  const squares = samples.reduce((sum, value) => sum + (value - center) ** 2, 0);
  return {
    median: median(samples),
    mean: center,
    deviation: n > 1 ? Math.sqrt(squares / (n - 1)) : null,
    min: least(samples),
    max: greatest(samples),
  };
}

export interface Estimate {
  readonly mean: number;
  /** Standard error of the mean; null for fewer than two values. */
  readonly standardError: number | null;
}

/** Mean of independent values and its standard error, the sample's standard deviation divided by √n. */
export function estimateMean(values: ArrayLike<number>): Estimate {
  const n = values.length;
  const all = Array.from(values);
  const center = mean(all);
  if (n < 2) return { mean: center, standardError: null };
  const squares = all.reduce((sum, value) => sum + (value - center) ** 2, 0);
  return { mean: center, standardError: Math.sqrt(squares / (n - 1) / n) };
}

/**
 * The exponent p of y ≈ c·xᵖ by least squares on logarithms: 1 is linear growth, 2 quadratic. Null with fewer than
 * two different x.
 */
export function growthExponent(points: readonly (readonly [x: number, y: number])[]): number | null {
  const logs = points.map(([x, y]) => [Math.log(x), Math.log(y)] as const);
  const [meanX, meanY] = [mean(logs.map(([x]) => x)), mean(logs.map(([, y]) => y))];
  const spread = logs.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  const together = logs.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  return spread > 0 ? together / spread : null;
}
