import { Chalk } from 'chalk';
import { allColumns, csvHeader, csvLines, roundCell } from './cells.js';
import { displayCell } from './display.js';
import type { ResultFormat } from './formats.js';
import type { Cell, Column, Row, Schema } from './schema.js';

interface PrintOptions {
  readonly color: boolean;
  /** Characters of a line that the reader sees; Infinity where lines may have any length. */
  readonly width: number;
}

type Printer = (columns: readonly Column[], rows: readonly Row[], options: PrintOptions) => string;

const isMeasured = (cell: Cell | undefined): boolean => cell !== null && cell !== undefined;

/** A table leaves out columns that hold nothing, and `status` when all went well. */
function filledColumns(columns: readonly Column[], rows: readonly Row[]): Column[] {
  return columns.filter(
    ({ name }) =>
      rows.some((row) => isMeasured(row[name])) &&
      !(name === 'status' && rows.every((row) => row.status === 'ok')),
  );
}

const isNumeric = (column: Column, rows: readonly Row[]): boolean =>
  rows.some((row) => typeof row[column.name] === 'number');

// Code points, which is what a terminal counts for the characters used here.
const width = (text: string): number => Array.from(text).length;

const GAP = '  ';

const cellText = (column: Column, row: Row): string => displayCell(column, row[column.name]);

const columnWidth = (column: Column, rows: readonly Row[]): number =>
  rows.reduce((most, row) => Math.max(most, width(cellText(column, row))), width(column.name));

const widthOf = (columns: readonly Column[], rows: readonly Row[]): number =>
  columns.reduce((sum, column) => sum + columnWidth(column, rows) + GAP.length, -GAP.length);

/**
 * A table for people. One that is too wide is divided: what all rows have alike comes first, a line each; the other columns
 * follow in parts that fit, each beginning with the keys.
 */
function printTable(all: readonly Column[], rows: readonly Row[], options: PrintOptions): string {
  const columns = filledColumns(all, rows);
  if (widthOf(columns, rows) <= options.width) return printGrid(columns, rows, options);
  const isAlike = (column: Column): boolean => new Set(rows.map((row) => cellText(column, row))).size === 1;
  const alike = columns.filter(isAlike);
  const parts = fittingParts(
    columns.filter((column) => !isAlike(column)),
    rows,
    options.width,
  );
  return [
    ...(alike.length > 0 ? [printAlike(alike, rows[0] ?? {}, options)] : []),
    ...parts.map((part) => printGrid(part, rows, options)),
  ].join('\n');
}

/** `context  4,096`, a line for each column. */
function printAlike(columns: readonly Column[], row: Row, { color }: PrintOptions): string {
  const chalk = new Chalk({ level: color ? 1 : 0 });
  const longest = Math.max(...columns.map(({ name }) => width(name)));
  const line = (column: Column): string =>
    `${chalk.bold(column.name)}${' '.repeat(longest - width(column.name))}${GAP}${cellText(column, row)}\n`;
  return columns.map(line).join('');
}

/** Columns in parts whose lines fit, in order; the keys stand in each, unless they take half of a line. */
function fittingParts(columns: readonly Column[], rows: readonly Row[], limit: number): Column[][] {
  const keys = columns.filter(({ kind }) => kind === 'key');
  const repeated = widthOf(keys, rows) <= limit / 2 ? keys : [];
  const parts: Column[][] = [];
  let part = [...repeated];
  for (const column of columns) {
    if (repeated.includes(column)) continue;
    if (part.length > repeated.length && widthOf([...part, column], rows) > limit) {
      parts.push(part);
      part = [...repeated];
    }
    part.push(column);
  }
  return part.length > 0 ? [...parts, part] : parts;
}

function printGrid(columns: readonly Column[], rows: readonly Row[], { color }: PrintOptions): string {
  const chalk = new Chalk({ level: color ? 1 : 0 });
  const cells = rows.map((row) => columns.map((column) => cellText(column, row)));
  const widths = columns.map((column) => columnWidth(column, rows));
  const right = columns.map((column) => isNumeric(column, rows));
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, index) => {
        const space = ' '.repeat((widths[index] ?? 0) - width(text));
        return right[index] ? space + text : text + space;
      })
      .join(GAP)
      .trimEnd();
  const lines = cells.map((row, index) =>
    rows[index]?.status === 'error' ? chalk.red(line(row)) : line(row),
  );
  return [chalk.bold(line(columns.map(({ name }) => name))), ...lines, ''].join('\n');
}

function printMarkdown(all: readonly Column[], rows: readonly Row[]): string {
  const columns = filledColumns(all, rows);
  const line = (texts: readonly string[]): string => `| ${texts.join(' | ')} |`;
  const escape = (text: string): string => text.replaceAll('|', '\\|');
  return [
    line(columns.map(({ name }) => name)),
    line(columns.map((column) => (isNumeric(column, rows) ? '---:' : '---'))),
    ...rows.map((row) => line(columns.map((column) => escape(displayCell(column, row[column.name]))))),
    '',
  ].join('\n');
}

function printJson(columns: readonly Column[], rows: readonly Row[]): string {
  const plain = rows.map((row) =>
    Object.fromEntries(columns.map((column) => [column.name, roundCell(column, row[column.name] ?? null)])),
  );
  return `${JSON.stringify(plain, null, 2)}\n`;
}

const printCsv: Printer = (columns, rows) => csvHeader(columns) + csvLines(columns, rows);

const PRINTERS: Readonly<Record<ResultFormat, Printer>> = {
  table: printTable,
  csv: printCsv,
  json: printJson,
  md: printMarkdown,
};

/**
 * The rows as text in `format`, results and timings together.
 * @param options of tables: whether with colors, and the characters of a line
 */
export function printRows(
  schema: Schema,
  rows: readonly Row[],
  format: ResultFormat,
  { color = false, width = Infinity }: Partial<PrintOptions> = {},
): string {
  return PRINTERS[format](allColumns(schema), rows, { color, width });
}
