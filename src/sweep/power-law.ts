/**
 * Power laws of losses: y = coefficient / x^exponent, and the same above a floor.
 *
 * Kaplan et al. (arXiv 2001.08361) write the first as L(N) = (N_c / N)^alpha, of which N_c = coefficient^(1 / alpha).
 * Hoffmann et al. (arXiv 2203.15556, "Chinchilla") add a floor: L(N) = E + A / N^alpha.
 */
import type { Random } from '../random.js';
import { growthExponent, mean } from './statistics.js';

export type Point = readonly [x: number, y: number];

export interface PowerLaw {
  readonly exponent: number;
  readonly coefficient: number;
  /** What y falls to; 0 in the form without it. */
  readonly floor: number;
}

export interface PowerLawForm {
  /** Different x that determine it. */
  readonly parameters: number;
  /** Null where the points do not determine it. */
  readonly fit: (points: readonly Point[]) => PowerLaw | null;
}

const countX = (points: readonly Point[]): number => new Set(points.map(([x]) => x)).size;

/**
 * Least squares of log y against log x. The exponent is negative where y grows.
 * @param points with x and y above 0
 */
function fitPlain(points: readonly Point[]): PowerLaw | null {
  const growth = growthExponent(points);
  if (growth === null) return null;
  const [x, y] = [mean(points.map(([at]) => Math.log(at))), mean(points.map(([, at]) => Math.log(at)))];
  return { exponent: -growth, coefficient: Math.exp(y - growth * x), floor: 0 };
}

/** Between these exponents the form with a floor is looked for. */
const EXPONENTS = { least: 0.01, most: 3, steps: 120 } as const;

interface Candidate extends PowerLaw {
  readonly squares: number;
}

/** For a given exponent: floor and coefficient, neither below 0, with the least squares of relative errors. */
function fitLinear(points: readonly Point[], unit: number, exponent: number): Candidate {
  const terms = points.map(([x, y]) => [1 / y, (x / unit) ** -exponent / y] as const);
  const sum = (of: (term: readonly [number, number]) => number): number =>
    terms.reduce((total, term) => total + of(term), 0);
  const [pp, pq, qq] = [sum(([p]) => p * p), sum(([p, q]) => p * q), sum(([, q]) => q * q)];
  const [p1, q1] = [sum(([p]) => p), sum(([, q]) => q)];
  const determinant = pp * qq - pq * pq;
  let floor = (p1 * qq - q1 * pq) / determinant;
  let scale = (pp * q1 - pq * p1) / determinant;
  if (!(floor > 0)) [floor, scale] = [0, q1 / qq];
  else if (!(scale > 0)) [floor, scale] = [p1 / pp, 0];
  const squares = sum(([p, q]) => (floor * p + scale * q - 1) ** 2);
  return { exponent, floor, coefficient: scale * unit ** exponent, squares };
}

/**
 * Least squares of relative errors, which are those of log y to first order. For each exponent the other two numbers have a
 * closed form, so that one number is left to search: on a grid, then by golden section around its best point.
 * @returns null with fewer than three different x, or where the best exponent is at an end of the search
 */
function fitWithFloor(points: readonly Point[]): PowerLaw | null {
  if (countX(points) < 3) return null;
  const unit = Math.exp(mean(points.map(([x]) => Math.log(x))));
  const at = (logarithm: number): Candidate => fitLinear(points, unit, Math.exp(logarithm));
  const { least, most, steps } = EXPONENTS;
  const step = Math.log(most / least) / steps;
  const grid = Array.from({ length: steps + 1 }, (_, i) => at(Math.log(least) + i * step));
  const best = grid.reduce((index, { squares }, i) => (squares < (grid[index]?.squares ?? 0) ? i : index), 0);
  if (best === 0 || best === steps) return null;
  const centre = Math.log(least) + best * step;
  const { exponent, coefficient, floor } = at(
    goldenSection((x) => at(x).squares, centre - step, centre + step),
  );
  return { exponent, coefficient, floor };
}

/** Where a function with one minimum between `low` and `high` has it. */
function goldenSection(of: (x: number) => number, low: number, high: number): number {
  const ratio = (Math.sqrt(5) - 1) / 2;
  let [a, b] = [low, high];
  let [left, right] = [b - ratio * (b - a), a + ratio * (b - a)];
  let [atLeft, atRight] = [of(left), of(right)];
  while (b - a > 1e-9) {
    if (atLeft < atRight) {
      [b, right, atRight] = [right, left, atLeft];
      left = b - ratio * (b - a);
      atLeft = of(left);
    } else {
      [a, left, atLeft] = [left, right, atRight];
      right = a + ratio * (b - a);
      atRight = of(right);
    }
  }
  return (a + b) / 2;
}

/** L(N) = (N_c / N)^alpha. */
export const PLAIN: PowerLawForm = { parameters: 2, fit: fitPlain };

/** L(N) = E + A / N^alpha. */
export const WITH_FLOOR: PowerLawForm = { parameters: 3, fit: fitWithFloor };

/** The value of the law at x. */
export const valueAt = ({ exponent, coefficient, floor }: PowerLaw, x: number): number =>
  floor + coefficient * x ** -exponent;

/** Root mean square of the relative errors. */
export const relativeError = (law: PowerLaw, points: readonly Point[]): number =>
  Math.sqrt(mean(points.map(([x, y]) => (valueAt(law, x) / y - 1) ** 2)));

/** Geometric means of the y of equal x: each x counts once, however often it was measured. */
export function meansByX(points: readonly Point[]): Point[] {
  const groups = new Map<number, number[]>();
  for (const [x, y] of points) groups.set(x, [...(groups.get(x) ?? []), Math.log(y)]);
  return [...groups].map(([x, logs]): Point => [x, Math.exp(mean(logs))]).sort(([a], [b]) => a - b);
}

/**
 * Fits of resamples of the points with replacement (the bootstrap of Efron 1979). A resample with fewer different x than the form
 * has numbers, or that does not determine it, is drawn again.
 * @returns null where nine of ten resamples do not determine it
 */
export function bootstrap(
  form: PowerLawForm,
  points: readonly Point[],
  { draws, random }: { readonly draws: number; readonly random: Random },
): PowerLaw[] | null {
  const laws: PowerLaw[] = [];
  for (let tries = 0; laws.length < draws; tries++) {
    if (tries === 10 * draws) return null;
    const sample = points.map(() => random.pick(points));
    const law = form.fit(meansByX(sample));
    if (law !== null) laws.push(law);
  }
  return laws;
}

/** The value below which a share of the values is, between neighbours by proportion. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const below = sorted[Math.floor(at)] ?? NaN;
  return below + (at - Math.floor(at)) * ((sorted[Math.ceil(at)] ?? NaN) - below);
}
