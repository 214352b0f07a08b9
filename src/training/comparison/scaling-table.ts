/** How the loss of each architecture falls with its size: Fig. 3 of the paper. */
import { Random } from '../../random.js';
import type { DerivedTable } from '../../results/derived.js';
import type { Column } from '../../results/schema.js';
import { rowOf, type TableSchema } from '../../results/typed.js';
import {
  bootstrap,
  meansByX,
  PLAIN,
  quantile,
  relativeError,
  WITH_FLOOR,
  type Point,
  type PowerLaw,
  type PowerLawForm,
} from '../../sweep/power-law.js';
import { groupBy, type Choice } from './choose-recipes.js';
import { SETTING_COLUMNS, type Setting } from './runs-table.js';

export interface ScalingKey extends Setting {
  readonly source: string;
  readonly variant: string;
  /** What the loss falls with. */
  readonly against: 'parameters' | 'flops';
  readonly form: 'kaplan' | 'chinchilla';
}

/** Null where the runs determine no fit; `reason` says why. Low and high: the ends of the 95 % interval. */
export interface ScalingFigures {
  readonly sizes: number;
  readonly runs: number;
  readonly exponent: number | null;
  readonly exponentLow: number | null;
  readonly exponentHigh: number | null;
  readonly coefficient: number | null;
  readonly coefficientLow: number | null;
  readonly coefficientHigh: number | null;
  readonly floor: number | null;
  readonly floorLow: number | null;
  readonly floorHigh: number | null;
  readonly kaplanScale: number | null;
  readonly relativeError: number | null;
  readonly reason: string | null;
}

/** Different sizes below which nothing is fitted. */
const LEAST_SIZES = 4;

const DRAWS = 1000;

const figure = <Name extends string>(name: Name, description: string): Column<Name> => ({
  ...{ name, description },
  kind: 'result',
});

/** Rounded to what a fit is worth, so that another processor gives the same file. */
const rounded = (value: number): number => Number(value.toPrecision(6));

const LOW = 'lower end of the 95 % interval';
const HIGH = 'upper end';

const SCALING_SCHEMA: TableSchema<ScalingKey, ScalingFigures> = {
  name: 'scaling',
  columns: [
    ...SETTING_COLUMNS.map((column) => ({ ...column, kind: 'key' as const })),
    { name: 'source', kind: 'key', description: 'held-out text; all: all of them together' },
    { name: 'variant', kind: 'key', description: 'architecture' },
    { name: 'against', kind: 'key', description: 'x: non-embedding parameters, or operations of training' },
    {
      name: 'form',
      kind: 'key',
      description: 'kaplan: coefficient / x^exponent; chinchilla: floor + that',
    },
    figure('sizes', 'different sizes'),
    figure('runs', 'seeds of all sizes'),
    figure('exponent', 'alpha'),
    figure('exponent_low', LOW),
    figure('exponent_high', HIGH),
    figure('coefficient', 'A'),
    figure('coefficient_low', LOW),
    figure('coefficient_high', HIGH),
    figure('floor', 'E, of the form chinchilla'),
    figure('floor_low', LOW),
    figure('floor_high', HIGH),
    figure('kaplan_scale', 'N_c of the form kaplan, (N_c / x)^alpha'),
    figure('relative_error', 'root mean square of the relative errors of the sizes'),
    figure('reason', 'why there is no fit'),
  ],
};

const FORMS = { kaplan: PLAIN, chinchilla: WITH_FLOOR } as const;

/**
 * Fits two laws to the losses of each architecture's best recipes at one number of tokens, each size counting once:
 * L = (N_c / N)^alpha (Kaplan et al., arXiv 2001.08361) by least squares of log L against log N, and L = E + A / N^alpha (Hoffmann
 * et al., arXiv 2203.15556) by least squares of relative errors. The intervals are percentiles of 1,000 resamples of the runs.
 *
 * Limits. All sizes see the same tokens, so that E holds what more tokens would gain and neither law extends to other
 * budgets. Best recipes are chosen on the same texts, which favours whatever was tuned more. Four sizes with a seed each
 * determine three numbers badly; resamples then repeat sizes, and the interval shows that rather than the noise of seeds.
 */
export function scalingTable(choices: readonly Choice[]): DerivedTable {
  const groups = groupBy(choices, ({ row: { data, length, tokens, source, variant } }) => [
    ...[data, length, tokens, source, variant],
  ]);
  const rows = groups.filter((group) => group.length >= LEAST_SIZES).flatMap(fitGroup);
  return { schema: SCALING_SCHEMA, rows: rows.map((row) => rowOf(SCALING_SCHEMA, row)) };
}

function fitGroup(group: readonly Choice[]): (ScalingKey & ScalingFigures)[] {
  const first = group[0]?.row;
  if (first === undefined) return [];
  const { data, length, tokens, source, variant } = first;
  return (['parameters', 'flops'] as const).flatMap((against) => {
    const points = group.flatMap(({ row, seeds }) => {
      const x = against === 'parameters' ? row.nonEmbeddingParameters : row.trainFlops;
      return seeds.map(({ loss }): Point => [x, loss]);
    });
    return (['kaplan', 'chinchilla'] as const).map((form) => {
      const key = { data, length, tokens, source, variant, against, form };
      return { ...key, ...fit(form, points, JSON.stringify(Object.values(key))) };
    });
  });
}

const NO_FIT = {
  ...{ exponent: null, exponentLow: null, exponentHigh: null },
  ...{ coefficient: null, coefficientLow: null, coefficientHigh: null },
  ...{ floor: null, floorLow: null, floorHigh: null, kaplanScale: null, relativeError: null },
} as const;

function fit(form: ScalingKey['form'], points: readonly Point[], seed: string): ScalingFigures {
  const bySize = meansByX(points);
  const counts = { sizes: bySize.length, runs: points.length };
  const law: PowerLawForm = FORMS[form];
  const found = law.fit(bySize);
  const resamples =
    found && bootstrap(law, points, { draws: DRAWS, random: new Random(seed).fork('bootstrap') });
  if (found === null || resamples === null) {
    return { ...counts, ...NO_FIT, reason: 'the sizes do not determine the exponent' };
  }
  const end = (share: number, of: (law: PowerLaw) => number): number =>
    rounded(quantile(resamples.map(of), share));
  const { exponent, coefficient, floor } = found;
  const isKaplan = form === 'kaplan';
  return {
    ...counts,
    exponent: rounded(exponent),
    exponentLow: end(0.025, (other) => other.exponent),
    exponentHigh: end(0.975, (other) => other.exponent),
    coefficient: rounded(coefficient),
    coefficientLow: end(0.025, (other) => other.coefficient),
    coefficientHigh: end(0.975, (other) => other.coefficient),
    floor: isKaplan ? null : rounded(floor),
    floorLow: isKaplan ? null : end(0.025, (other) => other.floor),
    floorHigh: isKaplan ? null : end(0.975, (other) => other.floor),
    kaplanScale: isKaplan && exponent > 0 ? finite(coefficient ** (1 / exponent)) : null,
    relativeError: rounded(relativeError(found, bySize)),
    reason: null,
  };
}

const finite = (value: number): number | null => (Number.isFinite(value) ? rounded(value) : null);
