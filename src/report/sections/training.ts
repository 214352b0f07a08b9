import { basename } from 'node:path';
import type { Row } from '../../results/schema.js';
import { formatNumber } from '../../results/display.js';
import { lineChart } from '../charts.js';
import { figure, htmlTable, paragraph } from '../html.js';
import type { ReportSource, Section } from '../section.js';
import { findTables, meansOfStretches, numberIn, pointsOf, type Table } from '../tables.js';

/** A run's name: its directory's. */
const runName = ({ place }: Table): string => basename(place) || 'train';

function last(rows: readonly Row[], column: string): string {
  const value = rows.map((row) => numberIn(row, column)).findLast((cell) => cell !== null);
  return typeof value === 'number' ? formatNumber(value) : '–';
}

function summaryRow(table: Table): string[] {
  const { rows } = table;
  const tokens = numberIn(rows.at(-1) ?? {}, 'tokens');
  const seconds = rows.reduce((sum, row) => sum + (numberIn(row, 'seconds') ?? 0), 0);
  const rate = tokens !== null && seconds > 0 ? formatNumber(tokens / seconds) : '–';
  return [
    runName(table),
    String(rows.length),
    tokens?.toLocaleString('en-US') ?? '–',
    last(rows, 'loss'),
    last(rows, 'held_out_loss'),
    rate,
  ];
}

/** More curves than this nobody can tell apart. */
const MOST_CURVES = 12;

const lossChart = (tables: readonly Table[]): string =>
  lineChart({
    title: 'Training loss and held-out loss',
    subtitle: 'training: means over stretches of steps; held-out: dashed',
    x: { label: 'tokens seen' },
    y: { label: 'loss (nats per token)' },
    series: tables.flatMap((table) => [
      { name: runName(table), points: meansOfStretches(pointsOf(table.rows, 'tokens', 'loss'), 60) },
      {
        name: `${runName(table)} held-out`,
        points: pointsOf(table.rows, 'tokens', 'held_out_loss'),
        dashed: true,
      },
    ]),
  });

export function trainingSection({ directory }: ReportSource): Section | null {
  const tables = findTables(directory, 'train').filter(({ rows }) => rows.length > 0);
  if (tables.length === 0) return null;
  const chart = tables.length <= MOST_CURVES ? lossChart(tables) : null;
  const summary = htmlTable({
    head: ['run', 'steps', 'tokens', 'last loss', 'held-out loss', 'tokens/s'],
    rows: tables.map(summaryRow),
    words: 1,
  });
  const text = 'Runs with the same data and seed see the same text in the same order.';
  return {
    title: 'Training',
    body: paragraph(text) + (chart === null ? '' : figure(chart)) + summary,
    figures: chart === null ? {} : { training: chart },
  };
}
