/** Which files of a directory a server may show: those that lie in it. */
import { readdirSync } from 'node:fs';
import { basename } from 'node:path';
import { YocoError } from '../../errors.js';
import { insideFile } from '../../files/inside.js';

/** What a report reads. */
const isShown = (path: string): boolean =>
  path.endsWith('.csv') || path.endsWith('.run.json') || basename(path) === 'README.md';

export interface Shown {
  /** Paths in the directory, in order. */
  readonly files: readonly string[];
  /** Why others are not shown, a line each: links that lead out of the directory. */
  readonly refused: readonly string[];
}

/** Tables, their descriptions and notes of a directory and those below it. @throws the system's error where it cannot be read */
export function shownFiles(directory: string): Shown {
  const [files, refused]: [string[], string[]] = [[], []];
  for (const path of readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(isShown).sort()) {
    try {
      insideFile(directory, path, directory);
      files.push(path);
    } catch (error) {
      if (!(error instanceof YocoError)) throw error;
      refused.push(error.message);
    }
  }
  return { files, refused };
}
