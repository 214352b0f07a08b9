/** Throughput of prompt and generation together, the measure of the paper's Figure 10. */
import { formatNumber, formatSeconds, formatTokenCount } from '../../results/display.js';
import { groupRows } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { lineChart } from '../charts.js';
import { figure, htmlTable, paragraph } from '../html.js';
import { overlays } from '../overlays.js';
import type { ReportSource, Section } from '../section.js';
import { byContext, findRows, legendName, pointsOf, shown, textIn, withFolders } from '../tables.js';

/** Measurements of several batches are several curves. */
function nameIn(rows: readonly Row[]): (row: Row) => string {
  const values = (column: string): number => new Set(rows.map((row) => textIn(row, column))).size;
  const [several, batches] = [values('model') > 1, values('batch') > 1];
  return withFolders(rows, (row) => {
    const batch = textIn(row, 'batch');
    const suffix = batch === 'auto' ? ', largest batch' : `, batch ${batch}`;
    return legendName(row, several) + (batches ? suffix : '');
  });
}

function chartOf(source: ReportSource, groups: ReadonlyMap<string, readonly Row[]>): string {
  return lineChart({
    title: 'Throughput against context',
    subtitle: 'generated tokens over the time of prefill and generation',
    x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
    y: { label: 'throughput (tokens/s)', scale: 'log' },
    series: [
      ...[...groups].map(([name, group]) => ({
        name,
        points: pointsOf(group, 'context', 'tokens_per_second'),
      })),
      ...overlays(source, 'throughput'),
    ],
  });
}

function tableOf(groups: ReadonlyMap<string, readonly Row[]>): string {
  return htmlTable({
    head: ['model', 'context', 'sequences', 'prefill', 'generation', 'tokens/s', 'estimated'],
    rows: [...groups].flatMap(([name, group]) =>
      byContext(group).map((row) => [
        name,
        shown(row, 'context', formatTokenCount),
        shown(row, 'sequences', formatNumber),
        shown(row, 'prefill_seconds', formatSeconds),
        shown(row, 'decode_seconds', formatSeconds),
        shown(row, 'tokens_per_second', formatNumber),
        textIn(row, 'estimated') === 'true' ? 'yes' : 'no',
      ]),
    ),
    words: 1,
  });
}

export function endToEndSection(source: ReportSource): Section | null {
  const rows = findRows(source.directory, 'profile-throughput-end-to-end');
  if (rows.length === 0) return null;
  const groups = groupRows(rows, nameIn(rows));
  const chart = chartOf(source, groups);
  return {
    title: 'Throughput',
    body:
      paragraph('Estimated rows interpolate between timed chunks of the prefill and timed decoding steps.') +
      figure(chart) +
      tableOf(groups),
    figures: { 'throughput-end-to-end': chart },
  };
}
