/** A CSV file of ours to which another process adds rows: a look at it reads what is new. */
import { closeSync, readSync, statSync, type Stats } from 'node:fs';
import { fileError, openRegular } from '../../files/read.js';
import { parseResultRows } from '../../results/read.js';
import type { Row } from '../../results/schema.js';

const LINE_END = 10;

export class GrowingTable {
  private seen: Stats | undefined;
  /** Bytes whose rows are known: whole lines. */
  private offset = 0;
  private columns: string[] = [];
  private known: Row[] = [];

  constructor(readonly path: string) {}

  /** None where there is no file. */
  get rows(): readonly Row[] {
    return this.known;
  }

  /** Milliseconds since 1970 of the last change; null where there is no file. */
  get changedAt(): number | null {
    return this.seen?.mtimeMs ?? null;
  }

  /**
   * Looks at the file again.
   * @returns whether there are other rows than before
   * @throws RunError where it cannot be read or is no table
   */
  refresh(): boolean {
    const now = statSync(this.path, { throwIfNoEntry: false });
    if (now === undefined) return this.forget();
    const before = this.seen;
    if (before !== undefined && isSame(before, now) && before.mtimeMs === now.mtimeMs) return false;
    const hasGrown = before !== undefined && isSame(before, now, 'longer');
    const isForgotten = !hasGrown && this.forget();
    const isNews = this.read();
    this.seen = now;
    return isNews || isForgotten;
  }

  /** Drops what is known. @returns whether that was anything */
  forget(): boolean {
    const wasKnown = this.seen !== undefined;
    [this.seen, this.offset, this.columns, this.known] = [undefined, 0, [], []];
    return wasKnown;
  }

  /** The whole lines after `offset`; a line of which the end is missing is left for the next look. */
  private read(): boolean {
    const { descriptor, size } = openRegular(this.path);
    try {
      const bytes = Buffer.alloc(Math.max(0, size - this.offset));
      const count = readSync(descriptor, bytes, 0, bytes.length, this.offset);
      const end = bytes.subarray(0, count).lastIndexOf(LINE_END) + 1;
      if (end === 0) return false;
      this.take(bytes.subarray(0, end).toString('utf8'));
      this.offset += end;
      return true;
    } catch (error) {
      throw fileError('read', this.path, error);
    } finally {
      closeSync(descriptor);
    }
  }

  private take(text: string): void {
    if (this.offset > 0) {
      this.known = [...this.known, ...parseResultRows(text, this.path, this.columns)];
      return;
    }
    // Names of columns are plain words: none is quoted.
    this.columns = (text.split(/\r?\n/, 1)[0] ?? '').split(',');
    this.known = parseResultRows(text, this.path);
  }
}

/** The file that was there before, and not another that took its name. */
const isSame = (before: Stats, now: Stats, size: 'equal' | 'longer' = 'equal'): boolean =>
  before.ino === now.ino &&
  before.birthtimeMs === now.birthtimeMs &&
  (size === 'equal' ? now.size === before.size : now.size > before.size);
