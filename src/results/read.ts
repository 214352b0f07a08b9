import { parse } from 'csv-parse/sync';
import { RunError } from '../errors.js';
import { readBytes } from '../files/read.js';
import { csvText } from './cells.js';
import type { Cell, Row } from './schema.js';

function parseCell(cell: string): Cell {
  const { text, quoted } = csvText(cell);
  if (quoted) return text;
  if (text === '') return null;
  if (text === 'true' || text === 'false') return text === 'true';
  const number = Number(text);
  return String(number) === text ? number : text;
}

/** A text of JavaScript is not longer than this. */
const MAX_CSV_BYTES = 2 ** 29 - 24;

/**
 * The rows of a CSV file of ours, cells in their types again.
 *
 * @throws RunError naming the file (and the line) when it cannot be read or is no CSV with a header.
 */
export function readResultRows(path: string): Row[] {
  return parseResultRows(readBytes(path, MAX_CSV_BYTES).toString('utf8'), path);
}

/**
 * The rows of a text in the form of a CSV file of ours.
 *
 * @param columns names of the columns where the text has no header
 * @throws RunError naming `where` it is from when it is no such text
 */
export function parseResultRows(text: string, where: string, columns?: readonly string[]): Row[] {
  let records: Record<string, string>[];
  try {
    const header = columns === undefined ? true : [...columns];
    records = parse(text, { columns: header, bom: true, record_delimiter: ['\r\n', '\n'] });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new RunError(`cannot read results: ${where}: ${reason}`, { cause: error });
  }
  return records.map((record) =>
    Object.fromEntries(Object.entries(record).map(([name, cell]) => [name, parseCell(cell)])),
  );
}
