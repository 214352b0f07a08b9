/** Prefill time and decode rate against context. */
import { growthTable } from '../../profiling/growth.js';
import { PREFILL_SCHEMA } from '../../profiling/tables.js';
import { formatBytes, formatNumber, formatSeconds, formatTokenCount } from '../../results/display.js';
import { groupRows } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { cellOf } from '../../results/typed.js';
import { lineChart } from '../charts.js';
import { figure, htmlTable, paragraph } from '../html.js';
import { overlays } from '../overlays.js';
import type { ReportSource, Section } from '../section.js';
import {
  byContext,
  barsOf,
  filledNote,
  findRows,
  isSampled,
  legendName,
  numberIn,
  percent,
  pointsOf,
  prefillRows,
  shown,
  textIn,
  withFolders,
} from '../tables.js';

const severalModels = (rows: readonly Row[]): boolean =>
  new Set(rows.map((row) => textIn(row, 'model'))).size > 1;

function prefillName(row: Row, withModel: boolean): string {
  const early = textIn(row, 'early_exit') === 'false' ? ', no early exit' : '';
  const sampled = isSampled(row) ? ', from sampled chunks' : '';
  return `${legendName(row, withModel)}${early}${sampled}`;
}

/** The chart of peak memory; prefills note it too. */
function peakChart(source: ReportSource, rows: readonly Row[], several: boolean): string | null {
  const withExit = rows.filter((row) => textIn(row, 'early_exit') !== 'false');
  const series = [...groupRows(withExit, (row) => legendName(row, several))]
    .map(([name, group]) => ({ name, points: pointsOf(group, 'context', 'peak_bytes') }))
    .filter(({ points }) => points.length > 0);
  if (series.length === 0) return null;
  return lineChart({
    title: 'Peak memory of the prefill against context',
    subtitle: 'largest sum of all tensors: weights, caches, activations',
    x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'memory', scale: 'log', unit: 'bytes' },
    series: [...series, ...overlays(source, 'memory')],
  });
}

/** One standard deviation below and above the median; null where nothing was repeated, or below zero. */
function spread(row: Row): readonly [number | null, number | null] {
  const [median, deviation] = [numberIn(row, 'seconds_median'), numberIn(row, 'seconds_sd')];
  if (median === null || deviation === null) return [null, null];
  return [median > deviation ? median - deviation : null, median + deviation];
}

function prefillChart(source: ReportSource, rows: readonly Row[], several: boolean): string {
  const series = [...groupRows(rows, (row) => prefillName(row, several))].map(([name, group]) => ({
    name,
    points: pointsOf(group, 'context', 'seconds_median'),
    bars: barsOf(group, 'context', spread),
    dashed: group.some((row) => isSampled(row) || textIn(row, 'early_exit') === 'false'),
  }));
  return lineChart({
    title: 'Prefill time against context',
    subtitle: 'median of repeated runs, bars: ± one standard deviation',
    x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'time to the first token', scale: 'log', unit: 'seconds' },
    series: [...series, ...overlays(source, 'prefill')],
  });
}

function prefillTable(rows: readonly Row[], several: boolean): string {
  return htmlTable({
    head: ['model', 'context', 'median', '± sd', 'tokens/s', 'GFLOP/s', 'share of a product', 'peak memory'],
    rows: rows.map((row) => [
      prefillName(row, several),
      shown(row, 'context', formatTokenCount),
      shown(row, 'seconds_median', formatSeconds),
      shown(row, 'seconds_sd', formatSeconds),
      shown(row, 'tokens_per_second', formatNumber),
      shown(row, 'flops_per_second', (value) => formatNumber(value / 1e9)),
      percent(numberIn(row, 'product_share')),
      shown(row, 'peak_bytes', formatBytes),
    ]),
    words: 1,
  });
}

function productNote(rows: readonly Row[]): string {
  const isMeasured = rows.some((row) => numberIn(row, 'product_share') !== null);
  return isMeasured
    ? paragraph('The share is of what a large matrix product reaches directly after each run.')
    : '';
}

function growthText(rows: readonly Row[], several: boolean): string {
  const whole = rows.filter((row) => !isSampled(row));
  const exponents = [...groupRows(whole, (row) => textIn(row, 'types'))].flatMap(([types, own]) => {
    const cells = own.map((row) => cellOf(PREFILL_SCHEMA, { ...row, status: 'ok' }));
    return growthTable(cells).rows.map(
      (row) => `${prefillName({ ...row, types }, several)} ${shown(row, 'growth_exponent', formatNumber)}`,
    );
  });
  return exponents.length > 0
    ? paragraph(`Time grows as context to the power of: ${exponents.join('; ')}.`)
    : '';
}

export function prefillSection(source: ReportSource): Section | null {
  const found = prefillRows(source.directory);
  if (found.length === 0) return null;
  const several = severalModels(found);
  const rows = [...groupRows(found, (row) => prefillName(row, several)).values()].flatMap(byContext);
  const prefill = prefillChart(source, rows, several);
  const peak = peakChart(source, rows, several);
  return {
    title: 'Prefill',
    body:
      figure(prefill) +
      growthText(rows, several) +
      (peak ? figure(peak) : '') +
      productNote(rows) +
      prefillTable(rows, several),
    figures: { prefill, ...(peak ? { 'prefill-memory': peak } : {}) },
  };
}

function throughputTable(rows: readonly Row[], nameOf: (row: Row) => string): string {
  const head = ['model', 'context', 'tokens/s', 'read per token', 'read per second', 'share of a copy'];
  const lines = [...groupRows(rows, nameOf).values()].flatMap(byContext);
  return htmlTable({
    head,
    rows: lines.map((row) => [
      nameOf(row),
      shown(row, 'context', formatTokenCount),
      shown(row, 'tokens_per_second', formatNumber),
      shown(row, 'bytes_streamed', formatBytes),
      shown(row, 'bytes_per_second', formatBytes),
      percent(numberIn(row, 'copy_share')),
    ]),
    words: 1,
  });
}

export function throughputSection(source: ReportSource): Section | null {
  const rows = findRows(source.directory, 'profile-throughput');
  if (rows.length === 0) return null;
  const several = severalModels(rows);
  const nameOf = withFolders(rows, (row) => legendName(row, several));
  const chart = lineChart({
    title: 'Decoding rate against context',
    subtitle: 'batch 1, median over the decoded tokens, bars: ± one standard deviation',
    x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'decoding rate (tokens/s)', scale: 'log' },
    series: [...groupRows(rows, nameOf)].map(([name, group]) => ({
      name,
      points: pointsOf(group, 'context', 'tokens_per_second'),
      bars: barsOf(group, 'context', (row) => {
        const [fast, slow] = spread(row);
        return [slow && 1 / slow, fast && 1 / fast];
      }),
    })),
  });
  const text =
    filledNote(rows) +
    'Read per token: weights, states, and keys and values in every layer that attends to them; its share of what a large copy ' +
    'reads and writes per second in the same run.';
  return {
    title: 'Decoding',
    body: paragraph(text) + figure(chart) + throughputTable(rows, nameOf),
    figures: { throughput: chart },
  };
}
