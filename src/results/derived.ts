/** Tables computed from finished rows (ratios, fits): written whole, no cells of their own to resume. */
import { join } from 'node:path';
import { csvHeader, csvLines, keyColumns, timingFileColumns } from './cells.js';
import { writeFileAtomic } from './files.js';
import type { Column, Row, Schema } from './schema.js';

export interface DerivedTable {
  schema: Schema;
  rows: readonly Row[];
}

/** Writes NAME.csv and NAME.timings.csv, each if the table has such columns; returns the files. */
export function writeDerived(directory: string, { schema, rows }: DerivedTable): string[] {
  const results = schema.columns.filter(({ kind }) => kind === 'result');
  const files: [suffix: string, columns: readonly Column[]][] = [
    ['.csv', results.length > 0 ? [...keyColumns(schema), ...results] : []],
    ['.timings.csv', timingFileColumns(schema)],
  ];
  return files
    .filter(([, columns]) => columns.length > 0)
    .map(([suffix, columns]) => {
      const path = join(directory, schema.name + suffix);
      writeFileAtomic(path, csvHeader(columns) + csvLines(columns, rows));
      return path;
    });
}
