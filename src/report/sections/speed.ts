/** Prefill time and decode rate against context. */
import { formatNumber, formatSeconds } from '../../results/display.js';
import { groupRows } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { formatTokenCount } from '../../cli/sizes.js';
import { lineChart } from '../charts.js';
import { figure, htmlTable, paragraph } from '../html.js';
import type { Section } from '../section.js';
import { findRows, legendName, numberIn, pointsOf, textIn } from '../tables.js';

const severalModels = (rows: readonly Row[]): boolean =>
  new Set(rows.map((row) => textIn(row, 'model'))).size > 1;

function prefillName(row: Row, withModel: boolean): string {
  const early = textIn(row, 'early_exit') === 'false' ? ', no early exit' : '';
  return `${legendName(row, withModel)}${early}`;
}

const cell = (row: Row, column: string, format: (value: number) => string): string => {
  const value = numberIn(row, column);
  return value === null ? '–' : format(value);
};

export function prefillSection(directory: string): Section | null {
  const rows = findRows(directory, 'profile-prefill');
  if (rows.length === 0) return null;
  const several = severalModels(rows);
  const chart = lineChart({
    title: 'Prefill time against context',
    subtitle: 'median of repeated runs',
    x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'time to the first token', scale: 'log', unit: 'seconds' },
    series: [...groupRows(rows, (row) => prefillName(row, several))].map(([name, group]) => ({
      name,
      points: pointsOf(group, 'context', 'seconds_median'),
      dashed: name.includes('no early exit'),
    })),
  });
  const table = htmlTable({
    head: ['model', 'context', 'median', '± sd', 'tokens/s', 'GFLOP/s'],
    rows: rows.map((row) => [
      prefillName(row, several),
      cell(row, 'context', formatTokenCount),
      cell(row, 'seconds_median', formatSeconds),
      cell(row, 'seconds_sd', formatSeconds),
      cell(row, 'tokens_per_second', formatNumber),
      cell(row, 'flops_per_second', (value) => formatNumber(value / 1e9)),
    ]),
    words: 1,
  });
  const exponents = findRows(directory, 'profile-prefill-growth').map((row) => {
    const exponent = cell(row, 'growth_exponent', formatNumber);
    return `${prefillName(row, several)} ${exponent}`;
  });
  const growth =
    exponents.length > 0 ? paragraph(`Time grows as context to the power of: ${exponents.join('; ')}.`) : '';
  return { title: 'Prefill', body: figure(chart) + growth + table, figures: { prefill: chart } };
}

export function throughputSection(directory: string): Section | null {
  const rows = findRows(directory, 'profile-throughput');
  if (rows.length === 0) return null;
  const several = severalModels(rows);
  const chart = lineChart({
    title: 'Decoding rate against context',
    subtitle: 'batch 1, median over the decoded tokens',
    x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'tokens per second', scale: 'log' },
    series: [...groupRows(rows, (row) => legendName(row, several))].map(([name, group]) => ({
      name,
      points: pointsOf(group, 'context', 'tokens_per_second'),
    })),
  });
  return { title: 'Decoding', body: figure(chart), figures: { throughput: chart } };
}
