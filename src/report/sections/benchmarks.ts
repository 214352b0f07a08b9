/** Tables of the benchmarks in `bench/cuda`: training steps, and the ways to decode. */
import { formatBytes, formatNumber, formatSeconds, formatTokenCount } from '../../results/display.js';
import { fileNamePart } from '../../files/write.js';
import { groupRows } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { lineChart } from '../charts.js';
import { escapeHtml, figure, htmlTable, paragraph } from '../html.js';
import type { ReportSource, Section } from '../section.js';
import { findTables, legendName, numberIn, percent, pointsOf, shown, textIn, type Table } from '../tables.js';

/** The tables with rows that were measured, and a heading for each where there are several. */
function measuredTables(directory: string, name: string): (Table & { heading: string })[] {
  const tables = findTables(directory, name)
    .map(({ place, rows }) => ({ place, rows: rows.filter(({ status }) => status !== 'error') }))
    .filter(({ rows }) => rows.length > 0);
  const isOne = tables.length === 1;
  return tables.map((table) => ({
    ...table,
    heading: isOne || table.place === '' ? '' : `<h3>${escapeHtml(table.place)}</h3>\n`,
  }));
}

function trainingRateTable(rows: readonly Row[]): string {
  return htmlTable({
    head: ['model', 'tokens a step', 'a step', 'tokens/s', 'TFLOP/s', 'share of a product', 'peak memory'],
    rows: rows.map((row) => [
      legendName(row, true),
      shown(row, 'tokens_per_step', (count) => count.toLocaleString('en-US')),
      shown(row, 'seconds', formatSeconds),
      shown(row, 'tokens_per_second', formatNumber),
      shown(row, 'flops_per_second', (value) => formatNumber(value / 1e12)),
      percent(numberIn(row, 'share')),
      shown(row, 'peak_bytes', formatBytes),
    ]),
    words: 1,
  });
}

export function trainingRateSection({ directory }: ReportSource): Section | null {
  const tables = measuredTables(directory, 'training-rate');
  if (tables.length === 0) return null;
  const text =
    'Steps of training on one batch: losses, gradients, clipping, AdamW; medians. FLOP/s by formula (6 N a token, and attention), ' +
    'their share of what a large matrix product reaches in the same run.';
  const parts = tables.map(({ heading, rows }) => heading + trainingRateTable(rows));
  return { title: 'Training rate', body: paragraph(text) + parts.join('\n'), figures: {} };
}

function modesTable(rows: readonly Row[]): string {
  return htmlTable({
    head: ['model', 'mode', 'context', 'a token', 'tokens/s', 'share of a copy', 'same tokens'],
    rows: rows.map((row) => [
      legendName(row, true),
      textIn(row, 'mode'),
      shown(row, 'context', formatTokenCount),
      shown(row, 'seconds', formatSeconds),
      shown(row, 'tokens_per_second', formatNumber),
      percent(numberIn(row, 'share')),
      row.same_tokens === true ? 'yes' : row.same_tokens === false ? 'no' : '–',
    ]),
    words: 2,
  });
}

/** The first way and the last; those between lie on each other. */
function modesChart(rows: readonly Row[]): string {
  const modes = [...groupRows(rows, (row) => textIn(row, 'mode')).keys()];
  const drawn = [modes[0], modes.at(-1)].filter((mode, i, all) => all.indexOf(mode) === i);
  return lineChart({
    title: 'Ways to decode, against context',
    subtitle: `batch 1, median; dashed: ${drawn[0] ?? ''}`,
    x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'tokens per second', scale: 'log' },
    series: [...groupRows(rows, (row) => legendName(row, true))].flatMap(([name, group]) =>
      drawn.map((mode, index) => ({
        name: `${name} ${mode ?? ''}`,
        points: pointsOf(
          group.filter((row) => row.mode === mode),
          'context',
          'tokens_per_second',
        ),
        dashed: index === 0,
      })),
    ),
  });
}

export function decodingModesSection({ directory }: ReportSource): Section | null {
  const tables = measuredTables(directory, 'decoding-modes');
  if (tables.length === 0) return null;
  const text =
    'Decoding step by step as it is computed, as recorded graphs, with kernels that overlap, and with products chained into one ' +
    'launch as well; all must choose the same tokens. The share is of what a large copy reads and writes per second in the same run.';
  const parts = tables.map(({ place, heading, rows }) => {
    const svg = modesChart(rows);
    const prefix = heading === '' ? '' : `${fileNamePart(place)}-`;
    return { svg, name: `${prefix}decoding-modes`, body: heading + figure(svg) + modesTable(rows) };
  });
  return {
    title: 'Ways to decode',
    body: paragraph(text) + parts.map(({ body }) => body).join('\n'),
    figures: Object.fromEntries(parts.map(({ name, svg }) => [name, svg])),
  };
}
