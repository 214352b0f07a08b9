/**
 * One CSV file of a table. The rows of a run stand together in their order, among rows of other keys that earlier runs
 * left in the same file: these stay where they are.
 */
import { existsSync, renameSync } from 'node:fs';
import { RunError } from '../errors.js';
import { writing } from '../files/write.js';
import { AppendFile } from './append-file.js';
import { csvHeader, csvLines, keyTextOf } from './cells.js';
import { readResultRows } from './read.js';
import type { Column, Row } from './schema.js';

interface OtherRow {
  readonly key: string;
  readonly row: Row;
}

export class TableFile {
  private readonly file: AppendFile;
  private readonly keys: readonly Column[];
  private others: OtherRow[] = [];
  /** How many of the others stand before the rows of this run; null while that is not known, which means all. */
  private place: number | null = null;
  /** Rows of this run were added after others that belong after them. */
  private isMisplaced = false;
  /** Something the person should know of the file that was there. */
  remark: string | null = null;

  constructor(
    readonly path: string,
    private readonly columns: readonly Column[],
  ) {
    this.file = new AppendFile(path);
    this.keys = columns.filter(({ kind }) => kind === 'key');
  }

  /**
   * Takes over the rows of an earlier run whose keys are not among `own`. A file with other columns is set aside.
   * @throws RunError for a file that is no table
   */
  keepOthers(own: ReadonlySet<string>): void {
    const rows = this.readEarlier();
    const [first] = rows;
    if (first === undefined) return;
    const names = this.columns.map(({ name }) => name);
    const found = Object.keys(first);
    if (
      !this.keys.every(({ name }) => found.includes(name)) ||
      !found.every((name) => names.includes(name))
    ) {
      this.setAside();
      return;
    }
    for (const row of rows) {
      const key = keyTextOf(this.keys, row);
      if (own.has(key)) this.place ??= this.others.length;
      else this.others.push({ key, row });
    }
  }

  /** A row of this run takes the place of an earlier one. @returns whether there was one */
  supersede(row: Row): boolean {
    if (this.others.length === 0) return false;
    const key = keyTextOf(this.keys, row);
    const index = this.others.findIndex((other) => other.key === key);
    if (index < 0) return false;
    this.others.splice(index, 1);
    this.place ??= index;
    return true;
  }

  get otherRows(): number {
    return this.others.length;
  }

  append(row: Row): void {
    this.isMisplaced ||= this.place !== null && this.place < this.others.length;
    this.file.append(csvLines(this.columns, [row]));
  }

  /** Writes the whole file. @param rows those of this run, in order */
  rewrite(rows: readonly Row[]): void {
    const others = this.others.map(({ row }) => row);
    const place = this.place ?? others.length;
    const all = [...others.slice(0, place), ...rows, ...others.slice(place)];
    this.file.replace(csvHeader(this.columns) + csvLines(this.columns, all));
    this.isMisplaced = false;
  }

  /** @throws OutputError where the file is gone */
  close(rows: readonly Row[]): void {
    this.file.verify();
    if (this.isMisplaced) this.rewrite(rows);
    this.file.close();
  }

  private readEarlier(): Row[] {
    if (!existsSync(this.path)) return [];
    try {
      return readResultRows(this.path);
    } catch (error) {
      const { message } = error as Error;
      throw new RunError(`${message}; choose another --out, or --no-resume to replace it`, { cause: error });
    }
  }

  private setAside(): void {
    const stem = this.path.replace(/\.csv$/, '');
    let number = 1;
    while (existsSync(`${stem}.earlier-${number}.csv`)) number += 1;
    const aside = `${stem}.earlier-${number}.csv`;
    writing(aside, () => {
      renameSync(this.path, aside);
    });
    this.remark = `${this.path} had other columns, it is now ${aside}`;
  }
}
