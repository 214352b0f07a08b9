import { Chalk } from 'chalk';
import { allColumns, csvHeader, csvLines, roundCell } from './cells.js';
import { displayCell } from './display.js';
import type { ResultFormat } from './formats.js';
import type { Cell, Column, Row, Schema } from './schema.js';

type Printer = (columns: readonly Column[], rows: readonly Row[], color: boolean) => string;

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

function printTable(all: readonly Column[], rows: readonly Row[], color: boolean): string {
  const columns = filledColumns(all, rows);
  const chalk = new Chalk({ level: color ? 1 : 0 });
  const cells = rows.map((row) => columns.map((column) => displayCell(column, row[column.name])));
  const widths = columns.map((column, index) =>
    Math.max(width(column.name), ...cells.map((row) => width(row[index] ?? ''))),
  );
  const right = columns.map((column) => isNumeric(column, rows));
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, index) => {
        const space = ' '.repeat((widths[index] ?? 0) - width(text));
        return right[index] ? space + text : text + space;
      })
      .join('  ')
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

/** The rows as text in `format`, results and timings together. */
export function printRows(
  schema: Schema,
  rows: readonly Row[],
  format: ResultFormat,
  { color = false } = {},
): string {
  return PRINTERS[format](allColumns(schema), rows, color);
}
