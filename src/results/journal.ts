import { existsSync } from 'node:fs';
import * as v from 'valibot';
import { RunError } from '../errors.js';
import { checkShape, parseJson } from '../files/json.js';
import { readBytes } from '../files/read.js';
import { AppendFile } from './append-file.js';
import type { Row } from './schema.js';

/** A line of the journal. */
const Entry = v.object({
  hash: v.pipe(v.string(), v.hexadecimal()),
  row: v.record(v.string(), v.nullable(v.union([v.string(), v.number(), v.boolean()]))),
});

/** Far more than the journal of the largest sweep. */
const MAX_JOURNAL_BYTES = 2 ** 31;
const NEWLINE = 10;

/** Finished cells under their hashes, one JSON line each; a line cut short by a crash is dropped when reopened. */
export class Journal {
  private readonly cells = new Map<string, Row>();
  private readonly file: AppendFile;

  private constructor(path: string) {
    this.file = new AppendFile(path);
  }

  /** @throws RunError naming file, line and field where a whole line is no cell */
  static open(path: string, resume: boolean): Journal {
    const journal = new Journal(path);
    if (!resume || !existsSync(path)) {
      journal.file.replace('');
      return journal;
    }
    const bytes = readBytes(path, MAX_JOURNAL_BYTES);
    const whole = bytes.subarray(0, bytes.lastIndexOf(NEWLINE) + 1);
    for (const { hash, row } of entries(path, whole)) journal.cells.set(hash, row);
    if (whole.length < bytes.length) journal.file.replace(whole);
    return journal;
  }

  /** Cells known, of this run and earlier ones. */
  get finished(): number {
    return this.cells.size;
  }

  get(hash: string): Row | undefined {
    return this.cells.get(hash);
  }

  /** Failed cells are written to the tables only: the next run tries them again. */
  add(hash: string, row: Row): void {
    if (row.status !== 'ok') return;
    this.file.append(`${JSON.stringify({ hash, row })}\n`);
    this.cells.set(hash, row);
  }

  close(): void {
    this.file.close();
  }
}

function* entries(path: string, bytes: Buffer): Generator<v.InferOutput<typeof Entry>> {
  let line = 0;
  for (let start = 0; start < bytes.length;) {
    const end = bytes.indexOf(NEWLINE, start);
    line += 1;
    const text = bytes.toString('utf8', start, end);
    start = end + 1;
    if (text.trim() === '') continue;
    const where = `${path}, line ${line}`;
    try {
      yield checkShape(where, parseJson(where, text), Entry);
    } catch (error) {
      const remedy = 'delete the line to measure its cell again, or use --no-resume';
      throw new RunError(`${(error as Error).message}; ${remedy}`, { cause: error });
    }
  }
}
