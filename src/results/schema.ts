/**
 * One list of columns describes a table of results and drives every printer, the CSV files, resume and comparison.
 *
 * - `key` columns identify a row: one cell of a sweep.
 * - `result` columns are what a rerun with the same seed on the same engine reproduces byte for byte.
 * - `timing` columns depend on the clock or the machine (seconds, resident memory) and live in `NAME.timings.csv`.
 */
export type ColumnKind = 'key' | 'result' | 'timing';

/** Empty cells are `null`: not measured is never 0. */
export type Cell = string | number | boolean | null;

export interface Column<Name extends string = string> {
  /** snake_case, unit included: `prefill_seconds`, `kv_cache_bytes`. */
  readonly name: Name;
  readonly kind: ColumnKind;
  readonly description: string;
  /** Decimal digits kept in files and in JSON (significant digits of the shortest round-trip form when absent). */
  readonly digits?: number;
  /** How a person reads it in `--format table`. */
  readonly display?: 'bytes' | 'seconds' | 'count' | 'percent' | 'plain';
  /** Compared by `--check`: which direction is a regression. Absent: any change beyond the tolerance. */
  readonly better?: 'lower' | 'higher';
  /** Percent by which `--check` lets it be worse at least: processors of other kinds round sums in another order. */
  readonly tolerance?: number;
}

export interface Schema<Name extends string = string> {
  /** File name stem: `needle`, `profile-prefill`. */
  readonly name: string;
  readonly columns: readonly Column<Name>[];
}

export type Row = Readonly<Record<string, Cell>>;
