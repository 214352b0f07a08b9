import { formatBytes, formatTokenCount } from '../../results/display.js';
import { groupRows, groupRowsBy } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { lineChart, type LineSeries } from '../charts.js';
import { figure, htmlTable, paragraph } from '../html.js';
import { overlays } from '../overlays.js';
import type { ReportSource, Section } from '../section.js';
import {
  filledNote,
  findRows,
  legendName,
  numberIn,
  pointsOf,
  shown,
  textIn,
  withFolders,
} from '../tables.js';

/** With more models a chart has one line each, their total. */
const FEW_MODELS = 4;

function seriesOf(name: string, rows: readonly Row[], isFew: boolean): LineSeries[] {
  const series: LineSeries[] = [
    { name: `${name} total`, points: pointsOf(rows, 'context', 'total_bytes'), dashed: true },
    { name: `${name} K/V`, points: pointsOf(rows, 'context', 'kv_cache_bytes'), dashed: true },
    { name: `${name} measured`, points: pointsOf(rows, 'context', 'measured_peak_bytes') },
  ];
  const shownSeries = isFew ? series : series.slice(0, 1);
  return shownSeries.filter(({ points }) => points.length > 0);
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

/** Whether a model was asked for at the same context in chunks of different sizes. */
function differInChunks(rows: readonly Row[]): boolean {
  if (new Set(rows.map((row) => textIn(row, 'chunk_tokens'))).size === 1) return false;
  const cells = rows.map((row) => `${legendName(row, true)} ${textIn(row, 'context')}`);
  return new Set(cells).size < cells.length;
}

/** @param chunks the size of all chunks, where others have a chart of their own; the rows are of the same types */
function memoryChart(source: ReportSource, rows: readonly Row[], chunks: string): string {
  const types = textIn(rows[0] ?? {}, 'types');
  const models = [...new Set(rows.map((row) => textIn(row, 'model')))];
  const lines = [
    ...groupRows(
      rows,
      // The title names the types.
      withFolders(rows, (row) => legendName({ ...row, types: '' }, models.length > 1)),
    ),
  ];
  const isFew = lines.length <= FEW_MODELS;
  return lineChart({
    title:
      `Inference memory against context, ${models.join(' and ')}` +
      (chunks === '' ? '' : `, in chunks of ${chunks} tokens`) +
      (types === '' ? '' : `, ${types}`),
    subtitle: isFew
      ? 'dashed: computed from the configuration, or of others; solid: measured on this machine'
      : 'total, computed from the configuration',
    x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'memory', scale: 'log', unit: 'bytes' },
    series: [...lines.flatMap(([name, part]) => seriesOf(name, part, isFew)), ...overlays(source, 'memory')],
  });
}

const pictureName = (name: string, chunks: string, types: string): string =>
  ['memory', name, chunks && `chunk-${chunks}`, types.replaceAll(/[^\w]+/g, '-')].filter(Boolean).join('-');

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
  const inChunks = differInChunks(measured);
  const name = (row: Row): string => legendName(row, several);
  // Chunks have a column of their own.
  const nameOf = inChunks ? name : withFolders(measured, name);
  const isDevice = used.some(([column]) => column === 'reserved_peak_bytes');
  const text =
    'Measured during the prefill: the largest sum of all tensors' +
    (isDevice
      ? '; reserved, what was taken from the device for them and for workspaces, memory kept for reuse included; and by the ' +
        'driver, what was in use beyond what was before the engine started.'
      : '.');
  const table = htmlTable({
    head: ['model', 'context', ...(inChunks ? ['chunks'] : []), ...used.map(([, head]) => head)],
    rows: measured.map((row) => [
      nameOf(row),
      shown(row, 'context', formatTokenCount),
      ...(inChunks ? [shown(row, 'chunk_tokens', formatTokenCount)] : []),
      ...used.map(([column]) => shown(row, column, formatBytes)),
    ]),
    words: 1,
  });
  return paragraph(text) + table;
}

export function memorySection(source: ReportSource): Section | null {
  const rows = findRows(source.directory, 'profile-memory');
  if (rows.length === 0) return null;
  const inChunks = differInChunks(rows);
  const chunksOf = (row: Row): string => (inChunks ? shown(row, 'chunk_tokens', formatTokenCount) : '');
  const charts = groupRowsBy(rows, ['types'])
    .flatMap((own) => [...groupRows(own, chunksOf)])
    .flatMap(([chunks, part]) =>
      [...byChart(part)].map(([name, group]): [string, string] => [
        pictureName(name, chunks, textIn(group[0] ?? {}, 'types')),
        memoryChart(source, group, chunks),
      ]),
    );
  const text =
    'YOCO keeps one K/V cache for all layers and a state of constant size; the Transformer keeps K/V for every layer. ' +
    `Total: weights, caches and the largest activations. ${filledNote(rows)}`;
  return {
    title: 'Memory',
    body: paragraph(text) + charts.map(([, svg]) => figure(svg)).join('\n') + measuredTable(rows),
    figures: Object.fromEntries(charts),
  };
}
