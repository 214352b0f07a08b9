/** `--check FILE`: today's figures against an earlier CSV of the same table. */
import { RunError } from '../errors.js';
import { allColumns, cellText, keyColumns, keyText, roundCell } from './cells.js';
import { readResultRows } from './read.js';
import type { Cell, Column, Row, Schema } from './schema.js';

/** An earlier table, read before the run that is compared with it. */
export interface Baseline {
  readonly file: string;
  /** Columns of the file that are compared. */
  readonly columns: readonly Column[];
  /** By the text of their keys. */
  readonly rows: ReadonlyMap<string, Row>;
}

export interface RowComparison {
  /** Which row: its keys and their values. */
  key: string;
  compared: number;
  /** One line for each figure that is worse than the tolerance allows: column, both values. */
  offences: string[];
  /** The row failed in the baseline and did not today. */
  repaired: boolean;
}

export interface Comparison {
  schema: Schema;
  baseline: Baseline;
  /** Percent by which a figure may be worse. */
  tolerance: number;
  /** The rows that both have, in today's order. */
  rows: RowComparison[];
  /** Rows of today that the baseline does not have. */
  unknown: string[];
}

/** Timings without a better direction (extremes, spreads) are no regression whichever way they go. */
const isCompared = (column: Column): boolean =>
  column.kind === 'result'
    ? column.name !== 'error'
    : column.kind === 'timing' && column.better !== undefined;

/**
 * Reads an earlier NAME.csv or NAME.timings.csv; columns it does not have are not compared.
 *
 * @throws RunError when the file cannot be read, is no table of this schema, or has no rows or nothing to compare
 */
export function readBaseline(schema: Schema, file: string): Baseline {
  const rows = readResultRows(file);
  const [first] = rows;
  if (first === undefined) throw new RunError(`${file} has no rows: there is nothing to compare with`);
  const missing = keyColumns(schema).filter(({ name }) => !(name in first));
  if (missing.length > 0) {
    const names = missing.map(({ name }) => name).join(', ');
    throw new RunError(`${file} is no table of ${schema.name}: column ${names} is missing`);
  }
  const columns = allColumns(schema).filter((column) => isCompared(column) && column.name in first);
  if (columns.length === 0) {
    throw new RunError(`${file} has no column of ${schema.name} that can be better or worse`);
  }
  return { file, columns, rows: new Map(rows.map((row) => [keyText(schema, row), row])) };
}

/** Percent by which `fresh` is worse than `base`; 0 when it is as good or better. */
function percentWorse(column: Column, base: number, fresh: number): number {
  const change = fresh - base;
  const worse = column.better === 'lower' ? change : column.better === 'higher' ? -change : Math.abs(change);
  if (worse <= 0) return 0;
  return base === 0 ? Infinity : (worse / Math.abs(base)) * 100;
}

function offence(column: Column, base: Cell, fresh: Cell, tolerance: number): string | null {
  const values = `${column.name} ${cellText(column, fresh) || 'empty'}, was ${cellText(column, base) || 'empty'}`;
  if (typeof base === 'number' && typeof fresh === 'number') {
    const worse = percentWorse(column, base, fresh);
    if (worse <= Math.max(tolerance, column.tolerance ?? 0)) return null;
    return Number.isFinite(worse) ? `${values} (${worse.toFixed(1)} % worse)` : values;
  }
  return base === fresh ? null : values;
}

const failed = (row: Row): boolean => row.status === 'error';

function compareRow(
  key: string,
  base: Row,
  fresh: Row,
  columns: readonly Column[],
  tolerance: number,
): RowComparison {
  // A row that failed has no figures: nothing today can be worse than it.
  if (failed(base)) return { key, compared: 1, offences: [], repaired: !failed(fresh) };
  const offences = columns
    .map((column) => {
      const now = roundCell(column, fresh[column.name] ?? null);
      return offence(column, base[column.name] ?? null, now, tolerance);
    })
    .filter((line) => line !== null);
  return { key, compared: columns.length, offences, repaired: false };
}

/**
 * Compares the rows both have. Rows of the baseline that this run did not measure are no offence, so that CI may check a
 * part of a sweep.
 *
 * @param tolerance percent by which a figure may be worse
 * @throws RunError when the two share no row
 */
export function compareResults(
  schema: Schema,
  fresh: readonly Row[],
  baseline: Baseline,
  tolerance: number,
): Comparison {
  const comparison: Comparison = { schema, baseline, tolerance, rows: [], unknown: [] };
  for (const row of fresh) {
    const key = keyText(schema, row);
    const base = baseline.rows.get(key);
    if (base === undefined) comparison.unknown.push(key);
    else comparison.rows.push(compareRow(key, base, row, baseline.columns, tolerance));
  }
  if (comparison.rows.length === 0) throw new RunError(`${baseline.file} has no row in common with this run`);
  return comparison;
}
