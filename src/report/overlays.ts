/** What charts show beside our own measurements of a table. */
import { groupRows } from '../results/group.js';
import type { LineSeries } from './charts.js';
import type { ReportSource } from './section.js';
import { pointsOf, textIn } from './tables.js';

export type OverlaidFigure = 'prefill' | 'memory' | 'throughput';

/**
 * Figures of others for comparison. A reference table has the columns figure (prefill in seconds, memory in bytes,
 * throughput in tokens per second, prefill included), series, context, value and source.
 */
export function overlays({ references }: ReportSource, figure: OverlaidFigure): LineSeries[] {
  const rows = references.filter((row) => textIn(row, 'figure') === figure);
  return [...groupRows(rows, (row) => textIn(row, 'series'))].map(([name, group]) => ({
    name,
    points: pointsOf(group, 'context', 'value'),
    dashed: true,
  }));
}
