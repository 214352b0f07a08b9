/** What charts show beside our own measurements of a table. */
import { RunError } from '../errors.js';
import { groupRows } from '../results/group.js';
import type { Row } from '../results/schema.js';
import type { LineSeries } from './charts.js';
import type { ReportSource } from './section.js';
import { textIn } from './tables.js';

export type OverlaidFigure = 'prefill' | 'memory' | 'throughput';

/**
 * Figures of others for comparison. A reference table has the columns figure (prefill in seconds, memory in bytes,
 * throughput in tokens per second, prefill included), series, context, value and source.
 * @throws RunError for a context or a value that is no number: a point that is left out would not be missed
 */
export function overlays({ references }: ReportSource, figure: OverlaidFigure): LineSeries[] {
  const rows = references.filter((row) => textIn(row, 'figure') === figure);
  return [...groupRows(rows, (row) => textIn(row, 'series'))].map(([name, group]) => ({
    name,
    points: group
      .map((row): [number, number] => [numberOf(row, 'context'), numberOf(row, 'value')])
      .sort(([a], [b]) => a - b),
    dashed: true,
  }));
}

/** People write reference tables: 0.260 is a number too, which a table of ours would not have. */
function numberOf(row: Row, column: 'context' | 'value'): number {
  const cell = row[column];
  const text = typeof cell === 'string' ? cell.trim() : '';
  const number = typeof cell === 'number' ? cell : text === '' ? NaN : Number(text);
  if (Number.isFinite(number)) return number;
  const where = ['figure', 'series', 'context'].map((name) => String(row[name] ?? '')).join(', ');
  throw new RunError(`reference ${where}: ${column} is '${String(cell ?? '')}', not a number`);
}
