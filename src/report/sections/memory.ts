import { groupRows } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { lineChart, type LineSeries } from '../charts.js';
import { figure, paragraph } from '../html.js';
import type { Section } from '../section.js';
import { findRows, legendName, pointsOf, textIn } from '../tables.js';

function seriesOf(name: string, rows: readonly Row[]): LineSeries[] {
  const series: LineSeries[] = [
    { name: `${name} total`, points: pointsOf(rows, 'context', 'total_bytes'), dashed: true },
    { name: `${name} K/V`, points: pointsOf(rows, 'context', 'kv_cache_bytes'), dashed: true },
    { name: `${name} measured`, points: pointsOf(rows, 'context', 'measured_peak_bytes') },
  ];
  return series.filter(({ points }) => points.length > 0);
}

export function memorySection(directory: string): Section | null {
  const rows = findRows(directory, 'profile-memory');
  if (rows.length === 0) return null;
  const models = groupRows(rows, (row) => textIn(row, 'model'));
  const charts = [...models].map(([model, group]): [string, string] => [
    `memory-${model}`,
    lineChart({
      title: `Inference memory against context, ${model}`,
      subtitle: 'dashed: computed from the configuration; solid: measured on this machine',
      x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
      y: { label: 'memory', scale: 'log', unit: 'bytes' },
      series: [...groupRows(group, (row) => legendName(row, false))].flatMap(([name, part]) =>
        seriesOf(name, part),
      ),
    }),
  ]);
  const text =
    'YOCO keeps one K/V cache for all layers and a state of constant size; the Transformer keeps K/V for every layer. ' +
    'Total: weights, caches and the largest activations.';
  return {
    title: 'Memory',
    body: paragraph(text) + charts.map(([, svg]) => figure(svg)).join('\n'),
    figures: Object.fromEntries(charts),
  };
}
