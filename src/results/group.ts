import type { Row } from './schema.js';

/** Rows in groups of equal values in `columns`, groups in the order of their first rows. */
export function groupRowsBy(rows: readonly Row[], columns: readonly string[]): Row[][] {
  const key = (row: Row): string => JSON.stringify(columns.map((column) => row[column]));
  return [...groupRows(rows, key).values()];
}

/** Rows, or typed cells, in groups of equal `key`, groups in the order of their first rows. */
export function groupRows<R = Row>(rows: readonly R[], key: (row: R) => string): Map<string, R[]> {
  const groups = new Map<string, R[]>();
  for (const row of rows) {
    const group = groups.get(key(row));
    if (group) group.push(row);
    else groups.set(key(row), [row]);
  }
  return groups;
}
