/** What charts show beside our own measurements of a table. */
import type { LineSeries } from './charts.js';
import { groupRows } from '../results/group.js';
import { findRows, numberIn, pointsOf, textIn } from './tables.js';

export type OverlaidFigure = 'prefill' | 'memory' | 'throughput';

/**
 * Figures of others for comparison, from tables called `reference`: columns figure (prefill in seconds, memory in bytes,
 * throughput in tokens per second), series, context, value and source.
 */
function references(directory: string, figure: OverlaidFigure): LineSeries[] {
  const rows = findRows(directory, 'reference').filter((row) => textIn(row, 'figure') === figure);
  return [...groupRows(rows, (row) => textIn(row, 'series'))].map(([name, group]) => ({
    name,
    points: pointsOf(group, 'context', 'value'),
    dashed: true,
  }));
}

const LONG_CONTEXT_COLUMNS: Readonly<Record<OverlaidFigure, string>> = {
  prefill: 'prefill_seconds_integrated',
  memory: 'live_bytes',
  throughput: 'decode_seconds',
};

/** The Transformer behind a filled cache, in tables of a program that did what `--fill-cache` and `--sample-chunks` do now. */
function longContext(directory: string, figure: OverlaidFigure): LineSeries[] {
  const column = LONG_CONTEXT_COLUMNS[figure];
  const rows = findRows(directory, 'transformer-long-context').filter(
    (row) => numberIn(row, 'decode_seconds') !== null,
  );
  return [...groupRows(rows, (row) => textIn(row, 'model'))].map(([model, group]) => ({
    name: figure === 'prefill' ? `${model}, integrated from chunks` : `${model}, cache filled`,
    points: pointsOf(group, 'context', column).map(([context, value]): [number, number] => [
      context,
      figure === 'throughput' ? 1 / value : value,
    ]),
  }));
}

export const overlays = (directory: string, figure: OverlaidFigure): LineSeries[] => [
  ...longContext(directory, figure),
  ...references(directory, figure),
];
