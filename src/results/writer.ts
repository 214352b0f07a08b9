/**
 * Writes a table of results cell by cell, so that nothing measured is ever measured twice or lost.
 *
 * In the directory: NAME.csv (keys and results), NAME.timings.csv (keys and timings, if the schema has any),
 * NAME.run.json (what the run was) and NAME.cells.jsonl, the journal of finished cells under a hash of everything
 * that determines them. The CSV files hold the rows of the present plan in its order, and the rows of other keys that
 * earlier runs left; the journal remembers cells of other plans too.
 */
import { join } from 'node:path';
import { OutputError } from '../errors.js';
import { lockDirectory } from '../files/lock.js';
import { makeDirectory } from '../files/write.js';
import { hashOf, type Json } from './canonical.js';
import { failedCell, keyOf, keyText, notFinite, resultFileColumns, timingFileColumns } from './cells.js';
import { Journal } from './journal.js';
import type { Provenance } from './provenance.js';
import { RunFile } from './run-file.js';
import type { Column, Row, Schema } from './schema.js';
import { TableFile } from './table-file.js';

export interface WriterOptions {
  /** What beside the key columns determines a cell (configuration, seed, hashes of data): a change measures anew. */
  settings: Json | ((key: Row) => Json);
  provenance: Provenance;
  /** Keep finished cells of earlier runs (default true). */
  resume?: boolean;
  /** Keep the rows of other keys that earlier runs left in the files (default: as `resume`, where there is a plan). */
  keepOthers?: boolean;
  /** The key of every cell in the order rows shall have; without it rows stand in the order of `append`. */
  plan?: readonly Row[];
}

export class ResultWriter {
  private readonly table = new Map<string, Row>();
  private readonly order = new Map<string, number>();
  private readonly outputs: TableFile[];
  private readonly runFile: RunFile;
  private readonly started = new Date();
  private lastPosition = -1;
  private resumed = 0;
  private closed = false;
  private failed = false;

  private constructor(
    readonly directory: string,
    readonly schema: Schema,
    private readonly journal: Journal,
    private readonly options: WriterOptions,
    private readonly unlock: () => void,
  ) {
    const output = (suffix: string, columns: Column[]): TableFile =>
      new TableFile(join(directory, `${schema.name}${suffix}.csv`), columns);
    const timings = timingFileColumns(schema);
    this.outputs = [
      output('', resultFileColumns(schema)),
      ...(timings.length ? [output('.timings', timings)] : []),
    ];
    this.runFile = new RunFile(join(directory, `${schema.name}.run.json`));
  }

  /**
   * @throws UsageError when rows of the table are of a run of other types (`--kv-dtype`, `--compute`)
   * @throws RunError when the directory cannot be written, another process writes this table there, or an earlier table
   *   in it cannot be read
   */
  static open(directory: string, schema: Schema, options: WriterOptions): ResultWriter {
    makeDirectory(directory);
    const unlock = lockDirectory(directory, schema.name, { doing: 'writing results', reentrant: true });
    try {
      const journal = Journal.open(join(directory, `${schema.name}.cells.jsonl`), options.resume ?? true);
      const writer = new ResultWriter(directory, schema, journal, options, unlock);
      writer.takeOver();
      return writer;
    } catch (error) {
      unlock();
      throw error;
    }
  }

  /** Begins with what earlier runs left. */
  private takeOver(): void {
    const { plan, resume = true, keepOthers = resume && plan !== undefined } = this.options;
    if (resume) this.runFile.requireSameTypes(this.options.provenance);
    for (const key of plan ?? []) {
      const hash = this.hash(key);
      this.order.set(hash, this.order.size);
      const row = this.journal.get(hash);
      if (row) this.table.set(hash, row);
    }
    this.resumed = this.table.size;
    if (keepOthers) this.keepOthers();
    this.rewrite();
    this.describe();
  }

  private keepOthers(): void {
    const own = new Set((this.options.plan ?? []).map((key) => keyText(this.schema, key)));
    for (const output of this.outputs) output.keepOthers(own);
    if (this.otherRows > 0) this.runFile.keepEarlier(this.options.provenance.command);
  }

  /** Is this cell known, from this run or an earlier one? */
  has(key: Row): boolean {
    return this.get(key) !== undefined;
  }

  /** The finished row of this cell. Without a plan, an earlier run's row takes its place in the table now. */
  get(key: Row): Row | undefined {
    const hash = this.hash(key);
    const known = this.table.get(hash);
    if (known) return known;
    const earlier = this.journal.get(hash);
    if (earlier) {
      this.resumed += 1;
      this.place(hash, earlier);
    }
    return earlier;
  }

  /** Writes a measured row through to the files. A row with a result that is NaN or infinite is written as failed. */
  append(row: Row): void {
    const failure = notFinite(this.schema, row);
    if (failure === null) this.record({ ...row, status: 'ok', error: null });
    else this.fail(keyOf(this.schema, row), failure);
  }

  /** Writes that this cell could not be measured; a later run tries again. The sweep continues. */
  fail(key: Row, error: unknown): void {
    this.record(failedCell(key, error));
  }

  /** The rows of this run so far, in order. */
  get rows(): Row[] {
    return [...this.table].sort(([a], [b]) => this.position(a) - this.position(b)).map(([, row]) => row);
  }

  get failures(): number {
    return this.rows.filter(({ status }) => status === 'error').length;
  }

  /** Rows of other keys, which earlier runs left in the same file. */
  get otherRows(): number {
    return Math.max(...this.outputs.map(({ otherRows }) => otherRows));
  }

  /** What the person should know of the files. */
  get remarks(): string[] {
    const kept = this.otherRows;
    const remarks = this.outputs.flatMap(({ remark }) => remark ?? []);
    const [path = ''] = this.files;
    return kept === 0 ? remarks : [...remarks, `${path} keeps ${kept} rows of earlier runs`];
  }

  /** The CSV files written. */
  get files(): string[] {
    return this.outputs.map(({ path }) => path);
  }

  /**
   * Completes NAME.run.json and lets other processes write the table. Rows are in the files already;
   * closing again does nothing.
   * @throws OutputError where one of the files is gone
   */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    try {
      // After a write that failed there is no more to say, and no place to say it.
      if (this.failed) return;
      this.saving(() => {
        this.describe(new Date());
        this.journal.close();
        for (const output of this.outputs) output.close(this.rows);
      });
    } finally {
      this.unlock();
    }
  }

  private hash(row: Row): string {
    const { settings } = this.options;
    const key = keyOf(this.schema, row);
    const columns = this.schema.columns.map(({ name }) => name);
    const version = this.options.provenance.versions.yoco ?? '';
    return hashOf({
      key,
      columns,
      version,
      settings: typeof settings === 'function' ? settings(row) : settings,
    });
  }

  private record(row: Row): void {
    const hash = this.hash(row);
    if (this.options.plan && !this.order.has(hash)) {
      throw new Error(`${this.schema.name}: row outside the plan: ${keyText(this.schema, row)}`);
    }
    this.saving(() => {
      this.journal.add(hash, row);
      this.place(hash, row);
    });
  }

  /** Writes; where that fails, the error says what is safe. */
  private saving(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.failed = true;
      if (!(error instanceof OutputError)) throw error;
      const saved = `${this.journal.finished} finished cells are saved in ${this.directory}`;
      throw new OutputError(`${error.message}; ${saved}, the same command resumes`, { cause: error });
    }
  }

  /** Where the row stands in the table: as planned, or as it came. */
  private position(hash: string): number {
    const position = this.order.get(hash) ?? this.order.size;
    this.order.set(hash, position);
    return position;
  }

  private place(hash: string, row: Row): void {
    const position = this.position(hash);
    this.table.set(hash, row);
    const supersedes = this.outputs.map((output) => output.supersede(row)).includes(true);
    if (supersedes || position <= this.lastPosition) {
      this.rewrite();
      return;
    }
    for (const output of this.outputs) output.append(row);
    this.lastPosition = position;
  }

  private rewrite(): void {
    const { rows } = this;
    for (const output of this.outputs) output.rewrite(rows);
    this.lastPosition = -1;
    for (const hash of this.table.keys())
      this.lastPosition = Math.max(this.lastPosition, this.position(hash));
  }

  private describe(finished?: Date): void {
    const { provenance, settings } = this.options;
    this.runFile.write({
      ...provenance,
      ...(typeof settings === 'function' ? {} : { settings }),
      started: this.started.toISOString(),
      finished: finished?.toISOString() ?? null,
      rows: this.table.size,
      resumedRows: this.resumed,
      failedRows: this.failures,
    });
  }
}
