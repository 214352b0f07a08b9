/** Tables computed from finished rows (ratios, fits): written whole, no cells of their own to resume. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { lockDirectory } from '../files/lock.js';
import { writing } from '../files/write.js';
import { keyColumns, keyText, timingFileColumns } from './cells.js';
import type { Column, Row, Schema } from './schema.js';
import { TableFile } from './table-file.js';

export interface DerivedTable {
  schema: Schema;
  rows: readonly Row[];
}

/**
 * Writes NAME.csv and NAME.timings.csv, each if the table has such columns; returns the files.
 * @param keepOthers keep the rows of other keys that are there, as `ResultWriter` does. Otherwise an earlier file is replaced,
 *   and of a table without rows no file is left.
 * @throws RunError where another process writes this table there
 */
export function writeDerived(
  directory: string,
  { schema, rows }: DerivedTable,
  { keepOthers = false } = {},
): string[] {
  const unlock = lockDirectory(directory, schema.name, { doing: 'writing results', reentrant: true });
  try {
    return writeFiles(directory, { schema, rows }, keepOthers);
  } finally {
    unlock();
  }
}

function writeFiles(directory: string, { schema, rows }: DerivedTable, keepOthers: boolean): string[] {
  const results = schema.columns.filter(({ kind }) => kind === 'result');
  const own = new Set(rows.map((row) => keyText(schema, row)));
  const files: [suffix: string, columns: readonly Column[]][] = [
    ['.csv', results.length > 0 ? [...keyColumns(schema), ...results] : []],
    ['.timings.csv', timingFileColumns(schema)],
  ];
  return files
    .filter(([, columns]) => columns.length > 0)
    .flatMap(([suffix, columns]) => {
      const table = new TableFile(join(directory, schema.name + suffix), columns);
      if (keepOthers) table.keepOthers(own);
      if (rows.length > 0 || table.otherRows > 0) {
        table.rewrite(rows);
        return [table.path];
      }
      writing(table.path, () => {
        rmSync(table.path, { force: true });
      });
      return [];
    });
}
