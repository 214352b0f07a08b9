/**
 * Typed cells: the library computes with objects whose fields are in camel case; files hold rows whose columns have the
 * same names in snake case. The schema of a table is the only list of both.
 */
import { failedCell, keyText } from './cells.js';
import type { Cell, Row, Schema } from './schema.js';

/** `kvCacheBytes` → `kv_cache_bytes`. */
export type SnakeCase<Name extends string> = Name extends `${infer Head}${infer Tail}`
  ? `${Head extends Lowercase<Head> ? Head : `_${Lowercase<Head>}`}${SnakeCase<Tail>}`
  : '';

/** The columns of a table, one for each field of its keys and figures. */
export type TableSchema<Key extends object, Figures extends object> = Schema<
  SnakeCase<keyof (Key & Figures) & string>
>;

/** One finished cell of a sweep. A cell that could not be measured says why and has no figures. */
export type TableCell<Key extends object, Figures extends object> =
  | (Key & Figures & { readonly status: 'ok'; readonly error: null })
  | (Key & { readonly [Name in keyof Figures]: null } & { readonly status: 'error'; readonly error: string });

/** `kv_cache_bytes` → `kvCacheBytes`. */
export const camelCase = (name: string): string =>
  name.replace(/_([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase());

/** @throws TypeError for a field without a column: nothing that was measured is left out in silence */
export function rowOf(schema: Schema, cell: object): Row {
  const fields = new Map<string, Cell>(Object.entries(cell));
  const row: Record<string, Cell> = {};
  for (const name of [...schema.columns.map((column) => column.name), 'status', 'error']) {
    const field = camelCase(name);
    const value = fields.get(field);
    if (value !== undefined) row[name] = value;
    fields.delete(field);
  }
  const [left] = fields.keys();
  if (left !== undefined) throw new TypeError(`table ${schema.name} has no column for the field '${left}'`);
  return row;
}

/** The typed cell of a row of this table; what the row leaves out is null. */
export function cellOf<Key extends object, Figures extends object>(
  schema: TableSchema<Key, Figures>,
  row: Row,
): TableCell<Key, Figures> {
  const names = [...schema.columns.map((column) => column.name), 'status', 'error'];
  const fields = names.map((name) => [camelCase(name), row[name] ?? null]);
  return Object.fromEntries(fields) as TableCell<Key, Figures>;
}

/** Where rows are kept: `ResultWriter` in files, `MemoryRows` nowhere. */
export interface RowStore {
  get(key: Row): Row | undefined;
  append(row: Row): void;
  fail(key: Row, error: unknown): void;
  readonly rows: readonly Row[];
}

/** Rows of a run that writes no files, in the order of its plan. */
export class MemoryRows implements RowStore {
  private readonly known = new Map<string, Row>();
  private readonly order: ReadonlyMap<string, number>;

  constructor(
    private readonly schema: Schema,
    plan: readonly Row[],
  ) {
    this.order = new Map(plan.map((key, index) => [keyText(schema, key), index]));
  }

  get(key: Row): Row | undefined {
    return this.known.get(keyText(this.schema, key));
  }

  append(row: Row): void {
    this.known.set(keyText(this.schema, row), { ...row, status: 'ok', error: null });
  }

  fail(key: Row, error: unknown): void {
    this.known.set(keyText(this.schema, key), failedCell(key, error));
  }

  get rows(): Row[] {
    const position = (text: string): number => this.order.get(text) ?? this.order.size;
    return [...this.known].sort(([a], [b]) => position(a) - position(b)).map(([, row]) => row);
  }
}

/** A table of typed cells over rows. */
export class CellTable<Key extends object, Figures extends object> {
  constructor(
    readonly schema: TableSchema<Key, Figures>,
    private readonly store: RowStore,
  ) {}

  has(key: Key): boolean {
    return this.get(key) !== undefined;
  }

  get(key: Key): TableCell<Key, Figures> | undefined {
    const row = this.store.get(rowOf(this.schema, key));
    return row && cellOf(this.schema, row);
  }

  /** The figures of a cell that was measured. */
  figures(key: Key): Figures | undefined {
    const row = this.store.get(rowOf(this.schema, key));
    if (row?.status !== 'ok') return undefined;
    const names = this.schema.columns.filter(({ kind }) => kind !== 'key').map(({ name }) => name as string);
    return Object.fromEntries(names.map((name) => [camelCase(name), row[name] ?? null])) as Figures;
  }

  append(cell: Key & Figures): void {
    this.store.append(rowOf(this.schema, cell));
  }

  /** Writes that this cell could not be measured. @throws what is no error of ours */
  fail(key: Key, error: unknown): void {
    this.store.fail(rowOf(this.schema, key), error);
  }

  /** The finished cells, in the order of the plan. */
  get cells(): TableCell<Key, Figures>[] {
    return this.store.rows.map((row) => cellOf(this.schema, row));
  }
}
