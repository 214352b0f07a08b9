/** Writing that either happens wholly or not at all, with failures a person can act on. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { describeSystemError, OutputError } from '../errors.js';
import { hasProcess } from './process.js';

/** Rethrows a file-system error as an `OutputError`: `cannot write PATH: why`. */
export function writing<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof Error) delete (error as NodeJS.ErrnoException).path;
    const reason = describeSystemError(error);
    if (reason === null) throw error;
    throw new OutputError(`cannot write ${path}: ${reason}`, { cause: error });
  }
}

/** Makes the directory and those above it. */
export function makeDirectory(path: string): void {
  writing(path, () => {
    makeWithParents(resolve(path));
  });
}

/** Node's own `recursive` never returns where a parent exists but nothing can be made in it (/proc). */
function makeWithParents(path: string): void {
  if (existsSync(path) && statSync(path).isDirectory()) return;
  if (existsSync(path))
    throw new OutputError(`cannot write into ${path}: it is a file, a directory is needed`);
  makeWithParents(dirname(path));
  try {
    mkdirSync(path);
  } catch (error) {
    // Another process may have been quicker.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** Writes all of `content` at the file's position; `writeSync` alone may stop half-way. */
export function writeWhole(descriptor: number, content: string | Uint8Array): void {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  for (let done = 0; done < bytes.length;) done += writeSync(descriptor, bytes, done);
}

/** Replaces `path` by `content`: after a crash at any moment the file is the old one or the new one. */
export function writeFileAtomic(path: string, content: string | Uint8Array): void {
  writing(path, () => {
    const temporary = temporaryBeside(path);
    try {
      const descriptor = openSync(temporary, 'wx');
      try {
        writeWhole(descriptor, content);
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

/** Paths beside which this process has looked for what others left. */
const swept = new Set<string>();

/**
 * Under which name a file is written before it takes its own: `.NAME.PID.tmp` in the same directory, where there is
 * none now. The first time, those that dead processes left of this file are removed.
 */
export function temporaryBeside(path: string): string {
  const [directory, name] = [dirname(path), basename(path)];
  const temporary = join(directory, `.${name}.${process.pid}.tmp`);
  rmSync(temporary, { force: true });
  if (swept.has(path)) return temporary;
  swept.add(path);
  const begin = `.${name}.`;
  for (const other of readdirSync(directory)) {
    const pid = other.startsWith(begin) ? /^(\d+)\.tmp$/.exec(other.slice(begin.length))?.[1] : undefined;
    if (pid !== undefined && !hasProcess(Number(pid))) rmSync(join(directory, other), { force: true });
  }
  return temporary;
}

/** `text` as part of a file's name: what is neither letter, digit, `_` nor dot becomes a dash. */
export function fileNamePart(text: string): string {
  return text.replace(/[^\w.]+/g, '-').replace(/^-+|-+$/g, '');
}
