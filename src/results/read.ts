import { readFileSync } from 'node:fs';
import { parse } from 'csv-parse/sync';
import { describeSystemError, RunError } from '../errors.js';
import type { Cell, Row } from './schema.js';

function parseCell(text: string): Cell {
  if (text === '') return null;
  if (text === 'true' || text === 'false') return text === 'true';
  const number = Number(text);
  return String(number) === text ? number : text;
}

/**
 * The rows of a CSV file of ours, cells in their types again.
 *
 * @throws RunError naming the file (and the line) when it cannot be read or is no CSV with a header.
 */
export function readResultRows(path: string): Row[] {
  let records: Record<string, string>[];
  try {
    records = parse(readFileSync(path, 'utf8'), { columns: true, bom: true });
  } catch (error) {
    const reason =
      describeSystemError(error) ?? `${path}: ${error instanceof Error ? error.message : String(error)}`;
    throw new RunError(`cannot read results: ${reason}`, { cause: error });
  }
  return records.map((record) =>
    Object.fromEntries(Object.entries(record).map(([name, text]) => [name, parseCell(text)])),
  );
}
