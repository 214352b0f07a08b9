/**
 * Pictures of the needle test: heat maps of accuracy over context and depth, one for each model, variant and number of
 * needles; and accuracy, time to the first token and memory against context, all models in one.
 */
import { formatTokenCount } from '../results/display.js';
import { heatMap, lineChart, type Axis } from './charts.js';
import { drawPictures } from './pictures.js';
import { stackCharts } from './stack.js';
import { barsOf, legendName, numberIn, pointsOf, rowsIn } from './tables.js';
import { groupRows, groupRowsBy } from '../results/group.js';
import type { Row } from '../results/schema.js';
import { greatest } from '../sweep/statistics.js';

/** Columns that tell one heat map from another. */
const MAP_COLUMNS = ['model', 'architecture', 'self_decoder', 'haystack', 'variant', 'needles'] as const;

/**
 * All pictures of a run, SVG by stem of the file name: the overview if there is one, then the heat maps.
 * @param cells rows of the table `needle`
 * @param contexts rows of the table `needle-contexts`, with their timings
 */
export function needleFigures(cells: readonly Row[], contexts: readonly Row[]): Map<string, string> {
  const overview = needleOverview(contexts);
  return new Map([
    ...(overview === null ? [] : [['needle-overview', overview] as const]),
    ...heatMaps(cells),
  ]);
}

function heatMaps(rows: readonly Row[]): Map<string, string> {
  const varying = MAP_COLUMNS.filter((name) => varies(rows, name));
  return new Map(groupRowsBy(rows, MAP_COLUMNS).map((group) => [stem(group[0] ?? {}, varying), draw(group)]));
}

interface OverviewChart {
  title: string;
  column: string;
  y: Axis;
}

const OVERVIEW: readonly [OverviewChart, ...OverviewChart[]] = [
  {
    title: 'Needles found',
    column: 'accuracy',
    y: { label: 'exact answers, 95 % intervals', unit: 'percent', range: [0, 1] },
  },
  {
    title: 'Time to the first token of the answer',
    column: 'first_token_seconds',
    y: { label: 'median time', scale: 'log', unit: 'seconds' },
  },
  {
    title: 'Peak memory',
    column: 'peak_bytes',
    y: { label: 'memory of all tensors', scale: 'log', unit: 'bytes' },
  },
];

/** Columns that name a setting of the test; the other columns of a map name the model. */
const SETTING_COLUMNS = ['haystack', 'variant', 'needles'] as const;

/**
 * One picture from the rows of the table `needle-contexts`; null where all have one context. Several models get a chart of
 * accuracy for each setting (haystack, variant, number of needles), one model has all settings in one; time and memory do
 * not depend on the setting and are those of the first.
 * @param rows with their timings
 */
export function needleOverview(rows: readonly Row[]): string | null {
  if (new Set(rows.map(({ context }) => context)).size < 2) return null;
  const [modelOf, settingOf] = [modelName(rows), settingName(rows)];
  const byModel = groupRows(rows, modelOf);
  const bySetting = groupRows(rows, settingOf);
  const [first = []] = bySetting.values();
  const both = (row: Row): string => inWords(modelOf(row), settingOf(row));
  const [accuracy, ...costs] = OVERVIEW;
  const charts =
    byModel.size === 1
      ? [overviewChart(accuracy, groupRows(rows, both))]
      : [...bySetting].map(([setting, group]) =>
          overviewChart(
            { ...accuracy, title: inWords(accuracy.title, setting, ': ') },
            groupRows(group, modelOf),
          ),
        );
  return stackCharts([...charts, ...costs.map((chart) => overviewChart(chart, groupRows(first, modelOf)))]);
}

const inWords = (name: string, setting: string, separator = ', '): string =>
  [name, setting].filter((text) => text !== '').join(separator);

const varies = (rows: readonly Row[], column: string): boolean =>
  new Set(rows.map((row) => row[column])).size > 1;

function modelName(rows: readonly Row[]): (row: Row) => string {
  const several = varies(rows, 'model');
  return (row) => legendName(row, several);
}

/** What tells a row's setting from the others of the table; empty where there is but one. */
function settingName(rows: readonly Row[]): (row: Row) => string {
  const varying = SETTING_COLUMNS.filter((column) => varies(rows, column));
  const words = (column: string, value: unknown): string => {
    if (column === 'haystack') return `in ${String(value)}`;
    if (column === 'needles') return value === 1 ? 'one needle' : `one of ${String(value)} needles`;
    return String(value);
  };
  return (row) => varying.map((column) => words(column, row[column])).join(', ');
}

/** Wilson's 95 % interval of the accuracy. */
const interval = (row: Row): readonly [number | null, number | null] => [
  numberIn(row, 'interval_low'),
  numberIn(row, 'interval_high'),
];

function overviewChart(
  { title, column, y }: OverviewChart,
  lines: ReadonlyMap<string, readonly Row[]>,
): string {
  return lineChart({
    title,
    x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
    y,
    series: [...lines].map(([name, group]) => ({
      name,
      points: pointsOf(group, 'context', column),
      ...(column === 'accuracy' ? { bars: barsOf(group, 'context', interval) } : {}),
    })),
  });
}

/**
 * Draws the tables that a directory holds, rows of earlier runs included: every picture as SVG and as PNG, in place of
 * those drawn before.
 * @returns the paths written
 */
export async function writeNeedleFigures(directory: string): Promise<string[]> {
  const pictures = needleFigures(rowsIn(directory, 'needle'), rowsIn(directory, 'needle-contexts'));
  return drawPictures(directory, pictures, { png: true, list: 'needle-figures.json' });
}

function stem(row: Row, varying: readonly string[]): string {
  const parts = varying.map((name) =>
    name === 'needles' ? `${String(row[name])}-needles` : String(row[name] ?? ''),
  );
  return ['needle', ...parts].join('-');
}

function draw(rows: readonly Row[]): string {
  const [row = {}] = rows;
  const distinct = (column: string): number[] =>
    [...new Set(rows.map((cell) => Number(cell[column])))].sort((a, b) => a - b);
  const contexts = distinct('context');
  const depths = distinct('depth');
  const accuracy = (depth: number, context: number): number | null => {
    const cell = rows.find((one) => one.depth === depth && one.context === context);
    return typeof cell?.accuracy === 'number' ? cell.accuracy : null;
  };
  const needles = Number(row.needles);
  const trials = greatest(rows.map((one) => Number(one.trials ?? 0)));
  const mixer = row.self_decoder ? `, ${String(row.self_decoder)}` : '';
  const variant = row.variant === 'standard' ? '' : `, ${String(row.variant)}`;
  return heatMap({
    title: `Needle in a haystack: ${String(row.model)} (${String(row.architecture)}${mixer})`,
    subtitle: `${needles === 1 ? 'one needle' : `one of ${needles} needles`}${variant}, ${trials} ${trials === 1 ? 'trial' : 'trials'} per cell, in ${String(row.haystack)}`,
    x: { label: 'context (tokens)', categories: contexts.map(formatTokenCount) },
    y: { label: 'needle depth', categories: depths.map((depth) => depthLabel(rows, depth)) },
    values: depths.map((depth) => contexts.map((context) => accuracy(depth, context))),
  });
}

/** The depth asked for, and the one reached where it is another: needles stand at the ends of sentences. */
function depthLabel(rows: readonly Row[], depth: number): string {
  const cells = rows.filter((row) => row.depth === depth).map((row) => row.placed_depth);
  const placed = cells.filter((cell) => typeof cell === 'number');
  const reached = placed.reduce((sum, value) => sum + value, 0) / placed.length;
  // Earlier tables do not say.
  if (placed.length === 0 || Math.abs(reached - depth) < 1) return `${depth} %`;
  return `${depth} % (at ${Math.round(reached)} %)`;
}
