/** What `yoco compare-training` found: recipes, losses of the architectures, and how they scale. */
import { formatCount, formatNumber } from '../../results/display.js';
import { groupRows, groupRowsBy } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { estimateMean, greatest, least } from '../../sweep/statistics.js';
import { valueAt } from '../../sweep/power-law.js';
import { lineChart, type LineSeries } from '../charts.js';
import { figure, htmlTable, paragraph } from '../html.js';
import type { ReportSource, Section } from '../section.js';
import { barsOf, findRows, numberIn, pointsOf, shown, textIn } from '../tables.js';

/** What must be equal for losses to compare, the size apart. */
const SETTING = ['folder', 'data', 'length', 'tokens'] as const;

interface Picture {
  readonly name: string;
  readonly svg: string;
}

const isOverall = (row: Row, rows: readonly Row[]): boolean =>
  row.source === 'all' || !rows.some((other) => other.run === row.run && other.source === 'all');

/** `4.1M tokens in sequences of 256`: what a chart or table holds. */
const settingText = (row: Row): string =>
  `${shown(row, 'tokens', formatCount)} tokens in sequences of ${textIn(row, 'length')}`;

/** 12.3456 ± 0.0012; without an error where there was one seed. */
function withError(row: Row, value: string, error: string): string {
  const found = shown(row, value, (number) => number.toFixed(3));
  return numberIn(row, error) === null
    ? found
    : `${found} ± ${shown(row, error, (number) => number.toFixed(3))}`;
}

/** Thirty points of the fitted law between the ends of the measured sizes. */
function curveOf(fit: Row | undefined, xs: readonly number[]): [number, number][] | undefined {
  const [exponent, coefficient, floor] = ['exponent', 'coefficient', 'floor'].map((name) =>
    fit === undefined ? null : numberIn(fit, name),
  );
  if (typeof exponent !== 'number' || typeof coefficient !== 'number') return undefined;
  const [from, to] = [Math.log(least(xs)), Math.log(greatest(xs))];
  return Array.from({ length: 30 }, (_, index): [number, number] => {
    const x = Math.exp(from + ((to - from) * index) / 29);
    return [x, valueAt({ exponent, coefficient, floor: floor ?? 0 }, x)];
  });
}

/** Loss against size, one chart for each setting and text with architectures of several sizes. */
function scalingCharts(comparison: readonly Row[], scaling: readonly Row[]): Picture[] {
  return groupRowsBy(comparison, [...SETTING, 'source']).flatMap((rows) => {
    const [first = {}] = rows;
    if (new Set(rows.map(({ size }) => size)).size < 2) return [];
    const fits = scaling.filter(
      (fit) =>
        [...SETTING, 'source'].every((name) => fit[name] === first[name]) &&
        fit.against === 'parameters' &&
        fit.form === 'kaplan',
    );
    const series = [...groupRows(rows, ({ variant }) => String(variant))].map(([name, group]): LineSeries => {
      const points = pointsOf(group, 'non_embedding_parameters', 'loss');
      const fit = fits.find(({ variant }) => variant === name);
      return {
        ...{ name, points, bars: errorsOf(group) },
        curve: curveOf(
          fit,
          points.map(([x]) => x),
        ),
      };
    });
    const svg = lineChart({
      title: `Loss against size: ${sourceText(first)}`,
      subtitle: `${settingText(first)}; bars: ± one standard error over seeds; dashed: (N_c/N)^α`,
      x: { label: 'non-embedding parameters', scale: 'log', unit: 'count', range: bounds(series) },
      y: { label: 'loss (nats per token)' },
      series,
    });
    return [{ name: 'quality-scaling', svg }];
  });
}

const sourceText = ({ source }: Row): string => (source === 'all' ? 'all held-out texts' : String(source));

const errorsOf = (rows: readonly Row[]): [number, number, number][] =>
  barsOf(rows, 'non_embedding_parameters', (row) => {
    const [loss, error] = [numberIn(row, 'loss'), numberIn(row, 'loss_error')];
    return loss === null || error === null ? [null, null] : [loss - error, loss + error];
  });

/** A little more than the points take, so that a ladder of one decade fills the picture. */
function bounds(series: readonly LineSeries[]): [number, number] {
  const xs = series.flatMap(({ points }) => points.map(([x]) => x));
  return [least(xs) / 1.25, greatest(xs) * 1.25];
}

/** More lines than this are divided by architecture. */
const MOST_LINES = 9;

/** Loss against learning rate, one chart for each size with several of them. */
function recipeCharts(runs: readonly Row[]): Picture[] {
  const overall = runs.filter((row) => isOverall(row, runs));
  return groupRowsBy(overall, [...SETTING, 'size']).flatMap((rows) => {
    if (countIn(rows, 'learning_rate') < 2) return [];
    const lines = groupRows(rows, lineName(rows)).size;
    return lines > MOST_LINES ? groupRowsBy(rows, ['variant']).map(recipeChart) : [recipeChart(rows)];
  });
}

const countIn = (rows: readonly Row[], column: string): number =>
  new Set(rows.map((row) => row[column])).size;

/** What differs beside the learning rate: architecture, initial values, and weight decay or batch where several were tried. */
function lineName(rows: readonly Row[]): (row: Row) => string {
  const withDecay = countIn(rows, 'weight_decay') > 1;
  const withBatch = countIn(rows, 'batch_tokens') > 1;
  return (row) =>
    [
      `${textIn(row, 'variant')}, ${textIn(row, 'initial_values')}`,
      ...(withDecay ? [`decay ${textIn(row, 'weight_decay')}`] : []),
      ...(withBatch ? [`batch ${shown(row, 'batch_tokens', formatCount)}`] : []),
    ].join(', ');
}

function recipeChart(rows: readonly Row[]): Picture {
  const [first = {}] = rows;
  const svg = lineChart({
    title: `Loss against learning rate: ${sourceText(first)}`,
    subtitle: `${textIn(first, 'size')} (layers x width), ${settingText(first)}; bars: ± one standard error over seeds`,
    x: { label: 'peak learning rate', scale: 'log' },
    y: { label: 'loss (nats per token)' },
    series: [...groupRows(rows, lineName(rows))].map(([name, group]) => ({ name, ...recipePoints(group) })),
  });
  return { name: 'quality-recipes', svg };
}

/** The mean over seeds of each recipe, in ascending learning rate. */
function recipePoints(rows: readonly Row[]): Pick<LineSeries, 'points' | 'bars'> {
  const recipes = groupRowsBy(rows, ['recipe', 'learning_rate'])
    .map((group) => {
      const losses = group.map((row) => numberIn(row, 'loss')).filter((loss) => loss !== null);
      const { mean, standardError: error } = estimateMean(losses);
      return { rate: Number(group[0]?.learning_rate), mean, error };
    })
    .sort((a, b) => a.rate - b.rate);
  return {
    points: recipes.map(({ rate, mean }) => [rate, mean] as const),
    bars: recipes.flatMap(({ rate, mean, error }) =>
      error === null ? [] : [[rate, mean - error, mean + error] as const],
    ),
  };
}

function comparisonTables(rows: readonly Row[]): string {
  return groupRowsBy(rows, [...SETTING, 'size', 'source'])
    .filter((group) => group.length > 1)
    .map((group) => {
      const [first = {}] = group;
      const heading = `${textIn(first, 'size')} (layers x width), ${settingText(first)}: ${sourceText(first)}`;
      const lines = [...group].sort((a, b) => (numberIn(a, 'loss') ?? 0) - (numberIn(b, 'loss') ?? 0));
      const table = htmlTable({
        head: [
          ...['architecture', 'best recipe', 'parameters', 'seeds', 'loss', 'AR-Hit', 'First-Occur'],
          ...['bits per byte', 'minus Transformer'],
        ],
        rows: lines.map((row) => [
          textIn(row, 'variant'),
          `lr ${textIn(row, 'learning_rate')}, ${textIn(row, 'initial_values')}, decay ${textIn(row, 'weight_decay')}`,
          shown(row, 'non_embedding_parameters', formatCount),
          textIn(row, 'seeds'),
          withError(row, 'loss', 'loss_error'),
          withError(row, 'ar_hit_loss', 'ar_hit_error'),
          withError(row, 'first_occur_loss', 'first_occur_error'),
          shown(row, 'bits_per_byte', (value) => value.toFixed(3)),
          withError(row, 'gap', 'gap_error'),
        ]),
        words: 2,
      });
      return paragraph(heading) + table;
    })
    .join('\n');
}

function scalingTable(rows: readonly Row[]): string {
  const fitted = rows.filter((row) => numberIn(row, 'exponent') !== null);
  if (fitted.length === 0) return '';
  const range = (row: Row, name: string): string =>
    numberIn(row, name) === null
      ? '–'
      : `${shown(row, name, formatNumber)} (${shown(row, `${name}_low`, formatNumber)} to ${shown(row, `${name}_high`, formatNumber)})`;
  return htmlTable({
    head: ['architecture', 'text', 'against', 'form', 'sizes', 'α', 'E', 'N_c', 'error'],
    rows: fitted.map((row) => [
      textIn(row, 'variant'),
      textIn(row, 'source'),
      textIn(row, 'against'),
      textIn(row, 'form'),
      textIn(row, 'sizes'),
      range(row, 'exponent'),
      range(row, 'floor'),
      shown(row, 'kaplan_scale', formatNumber),
      shown(row, 'relative_error', (value) => `${(100 * value).toFixed(2)} %`),
    ]),
    words: 4,
  });
}

/** `name`, `name-2`, `name-3`: charts of one kind. */
function numbered(pictures: readonly Picture[]): Record<string, string> {
  return Object.fromEntries(
    pictures.map(({ name, svg }, index) => {
      const before = pictures.slice(0, index).filter((other) => other.name === name).length;
      return [before === 0 ? name : `${name}-${before + 1}`, svg];
    }),
  );
}

export function trainingComparisonSection({ directory }: ReportSource): Section | null {
  const comparison = findRows(directory, 'comparison').filter((row) => textIn(row, 'variant') !== '');
  if (comparison.length === 0) return null;
  const scaling = findRows(directory, 'scaling');
  const figures = numbered([
    ...scalingCharts(comparison, scaling),
    ...recipeCharts(findRows(directory, 'runs')),
  ]);
  const text =
    'Each architecture by the best of the recipes tried at its size: the lowest mean loss on all held-out texts, among the recipes ' +
    'with the most seeds. ± is one standard error over seeds. AR-Hit: loss of tokens that complete a bigram which their context ' +
    'has shown before; First-Occur: of all others. α, E and N_c are of (N_c/N)^α and E + A/N^α, with 95 % intervals.';
  return {
    title: 'Quality of the architectures',
    body:
      paragraph(text) +
      Object.values(figures).map(figure).join('\n') +
      comparisonTables(comparison) +
      scalingTable(scaling),
    figures,
  };
}
