import { existsSync, readFileSync } from 'node:fs';
import { AppendFile } from './append-file.js';
import type { Row } from './schema.js';

/** Finished cells under their hashes, one JSON line each; a line cut short by a crash is dropped when reopened. */
export class Journal {
  private readonly cells = new Map<string, Row>();
  private readonly file: AppendFile;

  private constructor(path: string) {
    this.file = new AppendFile(path);
  }

  static open(path: string, resume: boolean): Journal {
    const journal = new Journal(path);
    const text = resume && existsSync(path) ? readFileSync(path, 'utf8') : '';
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    for (const line of whole.split('\n').filter(Boolean)) {
      const entry = parseEntry(line);
      if (entry) journal.cells.set(entry.hash, entry.row);
    }
    if (whole !== text || !resume || !existsSync(path)) journal.file.replace(whole);
    return journal;
  }

  get(hash: string): Row | undefined {
    return this.cells.get(hash);
  }

  /** Failed cells are written to the tables only: the next run tries them again. */
  add(hash: string, row: Row): void {
    if (row.status !== 'ok') return;
    this.cells.set(hash, row);
    this.file.append(`${JSON.stringify({ hash, row })}\n`);
  }

  close(): void {
    this.file.close();
  }
}

function parseEntry(line: string): { hash: string; row: Row } | null {
  try {
    return JSON.parse(line) as { hash: string; row: Row };
  } catch {
    return null;
  }
}
