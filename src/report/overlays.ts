/** What charts show beside our own measurements of a table. */
import type { LineSeries } from './charts.js';
import { groupRows } from '../results/group.js';
import { findRows, pointsOf, textIn } from './tables.js';

export type OverlaidFigure = 'prefill' | 'memory' | 'throughput';

/**
 * Figures of others for comparison, from tables called `reference`: columns figure (prefill in seconds, memory in bytes,
 * throughput in tokens per second), series, context, value and source.
 */
export function overlays(directory: string, figure: OverlaidFigure): LineSeries[] {
  const rows = findRows(directory, 'reference').filter((row) => textIn(row, 'figure') === figure);
  return [...groupRows(rows, (row) => textIn(row, 'series'))].map(([name, group]) => ({
    name,
    points: pointsOf(group, 'context', 'value'),
    dashed: true,
  }));
}
