/** Writing that either happens wholly or not at all, with failures a person can act on. */
import {
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { describeSystemError, OutputError, UsageError } from '../errors.js';
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
  if (nearestDirectory(path) === path) return;
  makeWithParents(dirname(path));
  try {
    mkdirSync(path);
  } catch (error) {
    // Another process may have been quicker.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/**
 * The directory itself, or the nearest above it that exists.
 * @throws OutputError where something else is in the way
 */
function nearestDirectory(path: string): string {
  const inTheWay = (problem: string): never => {
    throw new OutputError(`cannot write into ${path}: ${problem}, a directory is needed`);
  };
  try {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found === undefined) return nearestDirectory(dirname(path));
    const meant = found.isSymbolicLink() ? statSync(path, { throwIfNoEntry: false }) : found;
    if (meant === undefined) return inTheWay('it is a link to nothing');
    return meant.isDirectory() ? path : inTheWay('it is a file');
  } catch (error) {
    // A part of the path is a file: which, is found further up.
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return nearestDirectory(dirname(path));
    throw error;
  }
}

/** Where something is going to be written. */
export type Destination = { readonly directory: string } | { readonly file: string };

/** A write of this size fails on a full disk; nothing at all may have a place in the directory itself. */
const PROBE_BYTES = 4096;

/**
 * Refuses a destination that cannot be written, before there is anything to write. A file is written and removed in the
 * directory or, as long as there is none, in the nearest above it; nothing else is made.
 * @throws UsageError with the reason
 */
export function requireWritable(destination: Destination): void {
  const path = 'file' in destination ? destination.file : destination.directory;
  try {
    writing(path, () => {
      const directory = nearestDirectory(resolve('file' in destination ? dirname(path) : path));
      if ('file' in destination && statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
        throw new OutputError(`cannot write ${path}: it is a directory, a file is needed`);
      }
      const probe = temporaryBeside(join(directory, 'writable'));
      try {
        writeNew(probe, Buffer.alloc(PROBE_BYTES));
      } finally {
        rmSync(probe, { force: true });
      }
    });
  } catch (error) {
    if (!(error instanceof OutputError)) throw error;
    throw new UsageError(`${error.message}; choose another place`, { cause: error });
  }
}

/** Writes all of `content` at the file's position; `writeSync` alone may stop half-way. */
export function writeWhole(descriptor: number, content: string | Uint8Array): void {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  for (let done = 0; done < bytes.length;) done += writeSync(descriptor, bytes, done);
}

/** Writes a file that does not exist yet. @throws EEXIST where it does */
export function writeNew(path: string, content: string | Uint8Array, { sync = false } = {}): void {
  const descriptor = openSync(path, 'wx');
  try {
    writeWhole(descriptor, content);
    if (sync) fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Replaces `path` by `content`: after a crash at any moment the file is the old one or the new one. */
export function writeFileAtomic(path: string, content: string | Uint8Array): void {
  writing(path, () => {
    const temporary = temporaryBeside(path);
    try {
      writeNew(temporary, content, { sync: true });
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
