/** Errors of measured shares and means. */
import { estimateMean, type Estimate } from '../../sweep/statistics.js';

/** 97.5 % quantile of the standard normal distribution: for 95 % intervals. */
const Z95 = 1.959963984540054;

export interface Interval {
  readonly low: number;
  readonly high: number;
}

/**
 * Wilson's score interval for a share of `successes` in `trials`, 95 % by default. Unlike the normal approximation it
 * stays within [0, 1] and is meaningful for 0 and for all successes. Wilson 1927, J. Am. Stat. Assoc. 22, 209.
 */
export function wilsonInterval(successes: number, trials: number, z = Z95): Interval {
  if (trials === 0) return { low: 0, high: 1 };
  const share = successes / trials;
  const spread = z * Math.sqrt((share * (1 - share)) / trials + (z * z) / (4 * trials * trials));
  const centre = share + (z * z) / (2 * trials);
  const scale = 1 + (z * z) / trials;
  // Rounding would leave 5e-17 where the interval ends in 0 or 1 exactly.
  return {
    low: successes === 0 ? 0 : (centre - spread) / scale,
    high: successes === trials ? 1 : (centre + spread) / scale,
  };
}

/** The 95 % interval of an estimated share by the normal approximation; null without a standard error. */
export function normalInterval({ mean, standardError }: Estimate): Interval | null {
  if (standardError === null) return null;
  const spread = Z95 * standardError;
  return { low: Math.max(0, mean - spread), high: Math.min(1, mean + spread) };
}

/** The unweighted mean of independent estimates (a macro average) and its standard error. */
export function estimateMacro(estimates: readonly Estimate[]): Estimate {
  const n = estimates.length;
  const mean = estimates.reduce((sum, estimate) => sum + estimate.mean, 0) / n;
  if (estimates.some(({ standardError }) => standardError === null)) return { mean, standardError: null };
  const variance = estimates.reduce((sum, { standardError }) => sum + (standardError ?? 0) ** 2, 0);
  return { mean, standardError: Math.sqrt(variance) / n };
}

/** Mean of the differences `values − baseline` of paired values and its standard error. */
export function estimateDifference(values: readonly number[], baseline: readonly number[]): Estimate {
  if (values.length !== baseline.length) throw new RangeError('paired values must be equally many');
  return estimateMean(values.map((value, index) => value - (baseline[index] as number)));
}
