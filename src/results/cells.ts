/** From a cell of a table to its text in files, and the columns each file has. */
import { stringify } from 'csv-stringify/sync';
import { asYocoError, OutputError, RunError } from '../errors.js';
import { printable } from '../printable.js';
import type { Cell, Column, Row, Schema } from './schema.js';

/** Every row says whether its cell could be measured. */
const STATUS_COLUMNS: readonly Column[] = [
  { name: 'status', kind: 'result', description: 'ok, or error when the cell could not be measured' },
  { name: 'error', kind: 'result', description: 'why not' },
];

export const keyColumns = (schema: Schema): Column[] => schema.columns.filter(({ kind }) => kind === 'key');

/** Columns of NAME.csv: what a rerun reproduces byte for byte. */
export const resultFileColumns = (schema: Schema): Column[] => [
  ...schema.columns.filter(({ kind }) => kind !== 'timing'),
  ...STATUS_COLUMNS,
];

/** Columns of NAME.timings.csv; none when nothing is timed. */
export function timingFileColumns(schema: Schema): Column[] {
  const timings = schema.columns.filter(({ kind }) => kind === 'timing');
  return timings.length === 0 ? [] : [...keyColumns(schema), ...timings];
}

export const allColumns = (schema: Schema): Column[] => [...schema.columns, ...STATUS_COLUMNS];

/** A number at the column's precision; other cells as they are. */
export function roundCell(column: Column, cell: Cell): Cell {
  if (typeof cell !== 'number' || column.digits === undefined || !Number.isFinite(cell)) return cell;
  return Number(cell.toFixed(column.digits));
}

/** How a cell stands in a CSV file: empty for not measured. */
export function cellText(column: Column, cell: Cell | undefined): string {
  return cell === null || cell === undefined ? '' : String(roundCell(column, cell));
}

/** What spreadsheets compute when they open a file. */
const FORMULA = /^'*[=+\-@\t\r]/;

/** A text that a spreadsheet would take for a formula gets a quote in front, which `csvText` takes off again. */
const csvCell = (column: Column, cell: Cell | undefined): string => {
  const text = cellText(column, cell);
  return typeof cell === 'string' && FORMULA.test(text) ? `'${text}` : text;
};

/** The text of a cell of a CSV file of ours, and whether it was kept from being taken for a formula or a number. */
export function csvText(text: string): { text: string; quoted: boolean } {
  const quoted = text.startsWith("'") && FORMULA.test(text);
  return { text: quoted ? text.slice(1) : text, quoted };
}

export function csvLines(columns: readonly Column[], rows: readonly Row[]): string {
  return stringify(rows.map((row) => columns.map((column) => csvCell(column, row[column.name]))));
}

export const csvHeader = (columns: readonly Column[]): string => stringify([columns.map(({ name }) => name)]);

/** The text that tells one row of a table from another. */
export const keyText = (schema: Schema, row: Row): string => keyTextOf(keyColumns(schema), row);

export const keyTextOf = (keys: readonly Column[], row: Row): string =>
  keys.map((column) => `${column.name}=${cellText(column, row[column.name])}`).join(' ');

/**
 * The row of a cell that could not be measured, with the reason in one line.
 * @throws the error itself where it is a fault of the program, or says that results cannot be written
 */
export function failedCell(key: Row, error: unknown): Row {
  const failure = asYocoError(error);
  if (failure === null || failure instanceof OutputError) throw error;
  return { ...key, status: 'error', error: printable(failure.message) };
}

/** The key cells of a row. */
export const keyOf = (schema: Schema, row: Row): Row =>
  Object.fromEntries(keyColumns(schema).map(({ name }) => [name, row[name] ?? null]));

/** Why a row is no result: a figure that is NaN or infinite is not one. Timings are left alone. */
export function notFinite({ columns }: Schema, row: Row): RunError | null {
  const broken = columns.find(({ kind, name }) => {
    const cell = row[name];
    return kind === 'result' && typeof cell === 'number' && !Number.isFinite(cell);
  });
  return broken ? new RunError(`${broken.name} is not finite: ${String(row[broken.name])}`) : null;
}
