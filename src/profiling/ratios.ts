/** YOCO beside the Transformer: rows of the same cell, and what one needs of the other. */
import type { Column, Row, Schema } from '../results/schema.js';

export interface RowPair {
  yoco: Row;
  transformer: Row;
}

export interface RatioColumn extends Column {
  /** The column divided: the larger is meant to be on top, so that a ratio above 1 speaks for YOCO. */
  of: string;
  /** Whose figure is on top. */
  over: 'transformer' | 'yoco';
}

/** The key columns of a ratio table: YOCO's own, without the architecture. */
const pairKey = (schema: Schema): Column[] =>
  schema.columns.filter(({ name, kind }) => kind === 'key' && name !== 'architecture');

/** Pairs each YOCO row with the Transformer of the same name, or the only one there is, in the same cell. */
export function pairRows(schema: Schema, rows: readonly Row[]): RowPair[] {
  const transformers = rows.filter((row) => row.architecture === 'transformer');
  const names = new Set(transformers.map(({ model }) => model));
  const cell = pairKey(schema).filter(({ name }) => name !== 'model' && name !== 'self_decoder');
  return rows.flatMap((yoco) => {
    if (yoco.architecture !== 'yoco') return [];
    const partner = names.has(yoco.model ?? null) ? yoco.model : names.size === 1 ? [...names][0] : undefined;
    const transformer = transformers.find(
      (row) => row.model === partner && cell.every(({ name }) => row[name] === yoco[name]),
    );
    return transformer ? [{ yoco, transformer }] : [];
  });
}

/** The ratio of a pair; null where a figure is missing. */
export function quotientOf({ yoco, transformer }: RowPair, { of, over }: RatioColumn): number | null {
  const [top, bottom] = over === 'transformer' ? [transformer[of], yoco[of]] : [yoco[of], transformer[of]];
  if (typeof top !== 'number' || typeof bottom !== 'number' || bottom === 0) return null;
  return top / bottom;
}

/** The table of ratios, named after the table it is made of. */
export function ratioTable(
  schema: Schema,
  rows: readonly Row[],
  columns: readonly RatioColumn[],
): { schema: Schema; rows: Row[] } {
  const keys = pairKey(schema);
  const ratios = pairRows(schema, rows).map((pair): Row => ({
    ...Object.fromEntries(keys.map(({ name }) => [name, pair.yoco[name] ?? null])),
    transformer: pair.transformer.model ?? null,
    ...Object.fromEntries(columns.map((column) => [column.name, quotientOf(pair, column)])),
    status: 'ok',
  }));
  const partner: Column = { name: 'transformer', kind: 'key', description: 'the Transformer compared with' };
  const [model, ...others] = keys;
  const ordered = model ? [model, partner, ...others] : [partner];
  return { schema: { name: `${schema.name}-ratio`, columns: [...ordered, ...columns] }, rows: ratios };
}
