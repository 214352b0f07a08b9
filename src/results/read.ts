import { parse } from 'csv-parse/sync';
import { RunError, YocoError } from '../errors.js';
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
  let records: Record<string, string>[];
  try {
    const text = readBytes(path, MAX_CSV_BYTES).toString('utf8');
    records = parse(text, { columns: true, bom: true, record_delimiter: ['\r\n', '\n'] });
  } catch (error) {
    if (error instanceof YocoError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new RunError(`cannot read results: ${path}: ${reason}`, { cause: error });
  }
  return records.map((record) =>
    Object.fromEntries(Object.entries(record).map(([name, text]) => [name, parseCell(text)])),
  );
}
