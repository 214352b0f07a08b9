/**
 * Writes a table of results cell by cell, so that nothing measured is ever measured twice or lost.
 *
 * In the directory: NAME.csv (keys and results), NAME.timings.csv (keys and timings, if the schema has any),
 * NAME.run.json (what the run was) and NAME.cells.jsonl, the journal of finished cells under a hash of everything
 * that determines them. The CSV files hold the rows of the present plan in its order; the journal remembers cells of
 * other plans too.
 */
import { join } from 'node:path';
import { YocoError } from '../errors.js';
import { AppendFile } from './append-file.js';
import { hashOf, type Json } from './canonical.js';
import { csvHeader, csvLines, keyColumns, keyText, resultFileColumns, timingFileColumns } from './cells.js';
import { lockDirectory } from '../files/lock.js';
import { makeDirectory, writeFileAtomic } from '../files/write.js';
import { Journal } from './journal.js';
import type { Provenance } from './provenance.js';
import type { Column, Row, Schema } from './schema.js';

export interface WriterOptions {
  /** What beside the key columns determines a cell (configuration, seed, hashes of data): a change measures anew. */
  settings: Json | ((key: Row) => Json);
  provenance: Provenance;
  /** Keep finished cells of earlier runs (default true). */
  resume?: boolean;
  /** The key of every cell in the order rows shall have; without it rows stand in the order of `append`. */
  plan?: readonly Row[];
}

interface OutputFile {
  columns: Column[];
  file: AppendFile;
}

export class ResultWriter {
  private readonly table = new Map<string, Row>();
  private readonly order = new Map<string, number>();
  private readonly outputs: OutputFile[];
  private readonly started = new Date();
  private lastPosition = -1;
  private resumed = 0;
  private closed = false;

  private constructor(
    readonly directory: string,
    readonly schema: Schema,
    private readonly journal: Journal,
    private readonly options: WriterOptions,
    private readonly unlock: () => void,
  ) {
    const output = (suffix: string, columns: Column[]): OutputFile => ({
      columns,
      file: new AppendFile(join(directory, `${schema.name}${suffix}.csv`)),
    });
    const timings = timingFileColumns(schema);
    this.outputs = [
      output('', resultFileColumns(schema)),
      ...(timings.length ? [output('.timings', timings)] : []),
    ];
  }

  /** @throws RunError when the directory cannot be written, or another process writes this table there. */
  static open(directory: string, schema: Schema, options: WriterOptions): ResultWriter {
    makeDirectory(directory);
    const unlock = lockDirectory(directory, schema.name, { doing: 'writing results', reentrant: true });
    const journal = Journal.open(join(directory, `${schema.name}.cells.jsonl`), options.resume ?? true);
    const writer = new ResultWriter(directory, schema, journal, options, unlock);
    for (const key of options.plan ?? []) {
      const hash = writer.hash(key);
      writer.order.set(hash, writer.order.size);
      const row = journal.get(hash);
      if (row) writer.table.set(hash, row);
    }
    writer.resumed = writer.table.size;
    writer.rewrite();
    writer.describe();
    return writer;
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

  /** Writes a measured row through to the files. */
  append(row: Row): void {
    this.record({ ...row, status: 'ok', error: null });
  }

  /** Writes that this cell could not be measured; a later run tries again. The sweep goes on. */
  fail(key: Row, error: unknown): void {
    if (!(error instanceof YocoError)) throw error;
    this.record({ ...key, status: 'error', error: error.message });
  }

  /** The rows so far, in order. */
  get rows(): Row[] {
    return [...this.table].sort(([a], [b]) => this.position(a) - this.position(b)).map(([, row]) => row);
  }

  get failures(): number {
    return this.rows.filter(({ status }) => status === 'error').length;
  }

  /** The CSV files written. */
  get files(): string[] {
    return this.outputs.map(({ file }) => file.path);
  }

  /** Completes NAME.run.json and lets other processes write the table. Rows are in the files already; closing again does nothing. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.describe(new Date());
    this.journal.close();
    for (const { file } of this.outputs) file.close();
    this.unlock();
  }

  private hash(row: Row): string {
    const { settings } = this.options;
    const key = Object.fromEntries(keyColumns(this.schema).map(({ name }) => [name, row[name] ?? null]));
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
    this.journal.add(hash, row);
    this.place(hash, row);
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
    if (position <= this.lastPosition) {
      this.rewrite();
      return;
    }
    for (const { columns, file } of this.outputs) file.append(csvLines(columns, [row]));
    this.lastPosition = position;
  }

  private rewrite(): void {
    const { rows } = this;
    for (const { columns, file } of this.outputs) file.replace(csvHeader(columns) + csvLines(columns, rows));
    this.lastPosition = Math.max(-1, ...[...this.table.keys()].map((hash) => this.position(hash)));
  }

  private describe(finished?: Date): void {
    const { provenance, settings } = this.options;
    const description = {
      ...provenance,
      ...(typeof settings === 'function' ? {} : { settings }),
      started: this.started.toISOString(),
      finished: finished?.toISOString() ?? null,
      rows: this.table.size,
      resumedRows: this.resumed,
      failedRows: this.failures,
    };
    writeFileAtomic(
      join(this.directory, `${this.schema.name}.run.json`),
      `${JSON.stringify(description, null, 2)}\n`,
    );
  }
}
