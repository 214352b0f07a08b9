/** Tables computed from finished rows (ratios, fits): written whole, no cells of their own to resume. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { csvHeader, csvLines, keyColumns, timingFileColumns } from './cells.js';
import { writeFileAtomic, writing } from '../files/write.js';
import type { Column, Row, Schema } from './schema.js';

export interface DerivedTable {
  schema: Schema;
  rows: readonly Row[];
}

/**
 * Writes NAME.csv and NAME.timings.csv, each if the table has such columns; returns the files. Of a table without rows no file
 * is left: an earlier one is of other cells.
 */
export function writeDerived(directory: string, { schema, rows }: DerivedTable): string[] {
  const results = schema.columns.filter(({ kind }) => kind === 'result');
  const files: [suffix: string, columns: readonly Column[]][] = [
    ['.csv', results.length > 0 ? [...keyColumns(schema), ...results] : []],
    ['.timings.csv', timingFileColumns(schema)],
  ];
  return files
    .filter(([, columns]) => columns.length > 0)
    .flatMap(([suffix, columns]) => {
      const path = join(directory, schema.name + suffix);
      if (rows.length === 0) {
        writing(path, () => {
          rmSync(path, { force: true });
        });
        return [];
      }
      writeFileAtomic(path, csvHeader(columns) + csvLines(columns, rows));
      return [path];
    });
}
