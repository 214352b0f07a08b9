/** Writing that either happens wholly or not at all, with failures a person can act on. */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describeSystemError } from '../cli/failure.js';
import { RunError } from '../errors.js';

/** Rethrows a file-system error as `cannot write PATH: why`. */
export function writing<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof Error) delete (error as NodeJS.ErrnoException).path;
    const reason = describeSystemError(error);
    if (reason === null) throw error;
    throw new RunError(`cannot write ${path}: ${reason}`, { cause: error });
  }
}

export function makeDirectory(path: string): void {
  writing(path, () => mkdirSync(path, { recursive: true }));
}

/** Writes all of `text` at the file's position; `writeSync` alone may stop half-way. */
export function writeWhole(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
}

/** Replaces `path` by `text`: after a crash at any moment the file is the old one or the new one. */
export function writeFileAtomic(path: string, text: string): void {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  writing(path, () => {
    try {
      const descriptor = openSync(temporary, 'w');
      try {
        writeWhole(descriptor, text);
        fsyncSync(descriptor);
      } finally {
        closeSync(descriptor);
      }
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  });
}
