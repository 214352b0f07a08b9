/** `--check FILE`: today's figures against an earlier CSV of the same table. */
import { RunError } from '../errors.js';
import { allColumns, cellText, keyColumns, keyText, roundCell } from './cells.js';
import { readResultRows } from './read.js';
import type { Cell, Column, Row, Schema } from './schema.js';

export interface Comparison {
  /** Figures that were compared. */
  compared: number;
  /** One line for each figure that is worse than the tolerance allows: row, column, both values. */
  offences: string[];
}

/** Timings without a better direction (extremes, spreads) are no regression whichever way they go. */
const isCompared = (column: Column): boolean =>
  column.kind === 'result'
    ? column.name !== 'error'
    : column.kind === 'timing' && column.better !== undefined;

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
    if (worse <= tolerance) return null;
    return Number.isFinite(worse) ? `${values} (${worse.toFixed(1)} % worse)` : values;
  }
  return base === fresh ? null : values;
}

/**
 * Compares the rows both have. `file` may be NAME.csv or NAME.timings.csv; columns it does not have are not compared.
 * Rows of the baseline that this run did not measure are no offence, so that CI may check a part of a sweep.
 *
 * @param tolerance percent by which a figure may be worse
 * @throws RunError when the file is no table of this schema or shares no row with this run
 */
export function compareResults(
  schema: Schema,
  fresh: readonly Row[],
  file: string,
  tolerance: number,
): Comparison {
  const baseline = readResultRows(file);
  const present = new Set(Object.keys(baseline[0] ?? {}));
  const missing = keyColumns(schema).filter(({ name }) => !present.has(name));
  if (missing.length > 0) {
    const names = missing.map(({ name }) => name).join(', ');
    throw new RunError(`${file} is no table of ${schema.name}: column ${names} is missing`);
  }
  const columns = allColumns(schema).filter((column) => isCompared(column) && present.has(column.name));
  const known = new Map(baseline.map((row) => [keyText(schema, row), row]));
  const comparison: Comparison = { compared: 0, offences: [] };
  for (const row of fresh) {
    const base = known.get(keyText(schema, row));
    if (base === undefined) continue;
    for (const column of columns) {
      comparison.compared += 1;
      const now = roundCell(column, row[column.name] ?? null);
      const line = offence(column, base[column.name] ?? null, now, tolerance);
      if (line !== null) comparison.offences.push(`${keyText(schema, row)}: ${line}`);
    }
  }
  if (comparison.compared === 0) throw new RunError(`${file} has no row in common with this run`);
  return comparison;
}
