import { formatTokenCount } from '../../cli/sizes.js';
import { formatBytes } from '../../results/display.js';
import { groupRows } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { lineChart, type LineSeries } from '../charts.js';
import { figure, htmlTable, paragraph } from '../html.js';
import { overlays } from '../overlays.js';
import type { Section } from '../section.js';
import { filledNote, findRows, legendName, numberIn, pointsOf, shown, textIn } from '../tables.js';

function seriesOf(name: string, rows: readonly Row[]): LineSeries[] {
  const series: LineSeries[] = [
    { name: `${name} total`, points: pointsOf(rows, 'context', 'total_bytes'), dashed: true },
    { name: `${name} K/V`, points: pointsOf(rows, 'context', 'kv_cache_bytes'), dashed: true },
    { name: `${name} measured`, points: pointsOf(rows, 'context', 'measured_peak_bytes') },
  ];
  return series.filter(({ points }) => points.length > 0);
}

/** Rows by what one chart shows: a preset in both architectures, or presets of one architecture each together. */
function byChart(rows: readonly Row[]): Map<string, Row[]> {
  const models = groupRows(rows, (row) => textIn(row, 'model'));
  const isPair = (group: readonly Row[]): boolean =>
    new Set(group.map((row) => textIn(row, 'architecture'))).size > 1;
  const single = [...models].filter(([, group]) => !isPair(group)).map(([model]) => model);
  return groupRows(rows, (row) => {
    const model = textIn(row, 'model');
    return single.includes(model) ? single.join('-') : model;
  });
}

function memoryChart(directory: string, rows: readonly Row[]): string {
  const models = [...new Set(rows.map((row) => textIn(row, 'model')))];
  return lineChart({
    title: `Inference memory against context, ${models.join(' and ')}`,
    subtitle: 'dashed: computed from the configuration, or of others; solid: measured on this machine',
    x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'memory', scale: 'log', unit: 'bytes' },
    series: [
      ...[...groupRows(rows, (row) => legendName(row, models.length > 1))].flatMap(([name, part]) =>
        seriesOf(name, part),
      ),
      ...overlays(directory, 'memory'),
    ],
  });
}

/** What was measured, tensors and device; empty where nothing was. */
function measuredTable(rows: readonly Row[]): string {
  const measured = rows.filter((row) => numberIn(row, 'measured_peak_bytes') !== null);
  if (measured.length === 0) return '';
  const columns: readonly [column: string, head: string][] = [
    ['total_bytes', 'computed'],
    ['measured_peak_bytes', 'tensors'],
    ['reserved_peak_bytes', 'reserved'],
    ['device_used_bytes', 'by the driver'],
  ];
  const used = columns.filter(([column]) => measured.some((row) => numberIn(row, column) !== null));
  const several = new Set(measured.map((row) => textIn(row, 'model'))).size > 1;
  const isDevice = used.some(([column]) => column === 'reserved_peak_bytes');
  const text =
    'Measured during the prefill: the largest sum of all tensors' +
    (isDevice
      ? '; reserved, what was taken from the device for them and for workspaces, memory kept for reuse included; and by the ' +
        'driver, what was in use beyond what was before the engine started.'
      : '.');
  const table = htmlTable({
    head: ['model', 'context', ...used.map(([, head]) => head)],
    rows: measured.map((row) => [
      legendName(row, several),
      shown(row, 'context', formatTokenCount),
      ...used.map(([column]) => shown(row, column, formatBytes)),
    ]),
    words: 1,
  });
  return paragraph(text) + table;
}

export function memorySection(directory: string): Section | null {
  const rows = findRows(directory, 'profile-memory');
  if (rows.length === 0) return null;
  const charts = [...byChart(rows)].map(([name, group]): [string, string] => [
    `memory-${name}`,
    memoryChart(directory, group),
  ]);
  const text =
    'YOCO keeps one K/V cache for all layers and a state of constant size; the Transformer keeps K/V for every layer. ' +
    `Total: weights, caches and the largest activations. ${filledNote(rows)}`;
  return {
    title: 'Memory',
    body: paragraph(text) + charts.map(([, svg]) => figure(svg)).join('\n') + measuredTable(rows),
    figures: Object.fromEntries(charts),
  };
}
