/** Architectures of one size beside each other, each by its best recipe: Tables 5 and 6 of the paper. */
import type { DerivedTable } from '../../results/derived.js';
import { roundCell } from '../../results/cells.js';
import type { Column, Row } from '../../results/schema.js';
import { rowOf, type TableSchema } from '../../results/typed.js';
import { estimateMean, type Estimate } from '../../sweep/statistics.js';
import { groupBy, settingOf, type Choice, type SeedLosses } from './choose-recipes.js';
import {
  LOSS_COLUMNS,
  MODEL_FIGURE_COLUMNS,
  RECIPE_COLUMNS,
  SETTING_COLUMNS,
  type Losses,
  type ModelFigures,
  type RecipeFigures,
  type Setting,
} from './runs-table.js';
import { studentQuantile } from './student.js';
import { BASELINE } from './variant.js';

export interface ComparisonKey extends Setting {
  readonly size: string;
  readonly source: string;
  readonly variant: string;
}

/** Means over seeds with standard errors, which are null for one seed. */
export interface ComparisonFigures
  extends Omit<ModelFigures, 'size' | 'variant'>, RecipeFigures, Losses, Gap {
  readonly recipes: number;
  readonly seeds: number;
  readonly lossError: number | null;
  readonly arHitError: number | null;
  readonly firstOccurError: number | null;
}

/** Loss minus that of the Transformer; null without one. */
interface Gap {
  readonly gap: number | null;
  readonly gapError: number | null;
  /** The 95 % interval. */
  readonly gapLow: number | null;
  readonly gapHigh: number | null;
}

type Table = TableSchema<ComparisonKey, ComparisonFigures>;

const asKey = <Name extends string>(columns: readonly Column<Name>[]): Column<Name>[] =>
  columns.map((column) => ({ ...column, kind: 'key' }));

const [VARIANT, SIZE, ...MODEL_COLUMNS] = MODEL_FIGURE_COLUMNS;
const [LOSS, AR_HIT, FIRST_OCCUR, BITS] = LOSS_COLUMNS;

const nats = <Name extends string>(name: Name, description: string): Column<Name> => ({
  ...{ name, description },
  ...{ kind: 'result', digits: 6, display: 'plain' },
});

const COMPARISON_SCHEMA: Table = {
  name: 'comparison',
  columns: [
    ...asKey<'data' | 'length' | 'tokens' | 'size'>([...SETTING_COLUMNS, SIZE]),
    { name: 'source', kind: 'key', description: 'held-out text; all: all of them together' },
    ...asKey([VARIANT]),
    ...MODEL_COLUMNS,
    { name: 'recipes', kind: 'result', description: 'recipes tried' },
    ...RECIPE_COLUMNS,
    { name: 'seeds', kind: 'result', description: 'seeds of the best recipe' },
    LOSS,
    nats('loss_error', 'standard error of the mean over seeds'),
    AR_HIT,
    nats('ar_hit_error', 'standard error'),
    FIRST_OCCUR,
    nats('first_occur_error', 'standard error'),
    BITS,
    nats('gap', 'loss minus that of the Transformer'),
    nats('gap_error', 'standard error'),
    nats('gap_low', 'lower end of the 95 % interval'),
    nats('gap_high', 'upper end of the 95 % interval'),
  ],
};

/** Null where a seed has no such loss. */
function estimateAll(values: readonly (number | null)[]): Estimate | null {
  return values.every((value) => value !== null) ? estimateMean(values) : null;
}

/**
 * A row for each choice: sizes in ascending order, the Transformer first. Seeds count as independent, also those of different
 * architectures; what the choice of the held-out texts adds to the error is not in it. The interval has the lower bound of
 * Welch's degrees of freedom, the smaller number of seeds less one.
 */
export function comparisonTable(choices: readonly Choice[]): DerivedTable {
  const groups = groupBy(choices, ({ row }) => [settingOf(row), row.source]);
  const cells = groups.sort(bySize).flatMap((group) => {
    const isBaseline = ({ row }: Choice): boolean => row.variant === BASELINE;
    const ordered = [...group.filter(isBaseline), ...group.filter((choice) => !isBaseline(choice))];
    return ordered.map((choice) => comparisonCell(choice, group.find(isBaseline)));
  });
  return { schema: COMPARISON_SCHEMA, rows: cells.map((cell) => roundRow(rowOf(COMPARISON_SCHEMA, cell))) };
}

/** Smaller models before larger ones: layers and width decide. */
function bySize([a]: readonly Choice[], [b]: readonly Choice[]): number {
  const weights = (choice: Choice | undefined): number => {
    const [layers = 0, dim = 0] = (choice?.row.size ?? '').split('x').map(Number);
    return layers * dim ** 2;
  };
  return weights(a) - weights(b);
}

/** Cells as files have them, which printed tables show whole: gaps are small beside losses. */
const roundRow = (row: Row): Row =>
  Object.fromEntries(
    Object.entries(row).map(([name, cell]) => {
      const column = COMPARISON_SCHEMA.columns.find((candidate) => candidate.name === name);
      return [name, column ? roundCell(column, cell) : cell];
    }),
  );

function comparisonCell(
  { row, seeds, recipes }: Choice,
  baseline: Choice | undefined,
): ComparisonKey & ComparisonFigures {
  const { data, length, tokens, size, source, variant } = row;
  const { parameters, nonEmbeddingParameters, trainFlops } = row;
  const { recipe, learningRate, initialValues, weightDecay, batchTokens } = row;
  const loss = estimateMean(seeds.map((seed) => seed.loss));
  const arHit = estimateAll(seeds.map(({ arHitLoss }) => arHitLoss));
  const firstOccur = estimateAll(seeds.map(({ firstOccurLoss }) => firstOccurLoss));
  return {
    ...{ data, length, tokens, size, source, variant },
    ...{ parameters, nonEmbeddingParameters, trainFlops, recipes },
    ...{ recipe, learningRate, initialValues, weightDecay, batchTokens, seeds: seeds.length },
    ...{ loss: loss.mean, lossError: loss.standardError },
    ...{ arHitLoss: arHit?.mean ?? null, arHitError: arHit?.standardError ?? null },
    ...{ firstOccurLoss: firstOccur?.mean ?? null, firstOccurError: firstOccur?.standardError ?? null },
    bitsPerByte: estimateMean(seeds.map((seed) => seed.bitsPerByte)).mean,
    ...gapTo(seeds, variant === BASELINE ? undefined : baseline?.seeds),
  };
}

function gapTo(seeds: readonly SeedLosses[], baseline: readonly SeedLosses[] | undefined): Gap {
  if (baseline === undefined) return { gap: null, gapError: null, gapLow: null, gapHigh: null };
  const own = estimateMean(seeds.map(({ loss }) => loss));
  const other = estimateMean(baseline.map(({ loss }) => loss));
  const gap = own.mean - other.mean;
  if (own.standardError === null || other.standardError === null) {
    return { gap, gapError: null, gapLow: null, gapHigh: null };
  }
  const gapError = Math.hypot(own.standardError, other.standardError);
  const spread = studentQuantile(Math.min(seeds.length, baseline.length) - 1) * gapError;
  return { gap, gapError, gapLow: gap - spread, gapHigh: gap + spread };
}
