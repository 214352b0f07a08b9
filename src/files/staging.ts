/**
 * Directories that appear whole: they are written under another name and renamed. What a dead process left of that is
 * put right by whoever writes the directory next.
 *
 * A directory that does not exist is written beside its place (`PATH.PID.tmp`). In one that exists (it may be a mount
 * point, a link, or hold files of others) the new files are written into `.PID.tmp` in it, and then exchanged one by
 * one for the old ones of the same kind; other files stay. The name of that directory says how far it is:
 *
 *     .PID.tmp   the new files are being written
 *     .PID.new   they are complete; the old ones are moved to .PID.old
 *     .PID.put   all old ones are there; the new ones take their places
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileError } from './read.js';
import { makeDirectory } from './write.js';

/** What a directory of some kind consists of. */
export interface Kind {
  /** Whether a file of this name belongs to it; others are neither replaced nor removed. */
  readonly belongs: (name: string) => boolean;
  /** The files without which it is not taken for one: first away, last in place. */
  readonly marks: (name: string) => boolean;
}

type Fill = (directory: string) => void | Promise<void>;

/** Makes a rename in `directory` durable; not every platform can open a directory, and then it does without. */
export function syncDirectory(directory: string): void {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(directory, 'r');
    fsyncSync(descriptor);
  } catch {
    // Windows has no directory handles; the rename itself is still atomic there.
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/**
 * Writes a directory of a kind: `path` is what it was or complete, or it lacks its marks until `recoverDirectory`
 * has put it right. One process at a time may do so: callers hold a lock.
 */
export async function writeDirectory(path: string, kind: Kind, fill: Fill): Promise<void> {
  if (existsSync(path)) await exchange(path, kind, fill);
  else await replaceDirectory(path, fill);
}

/**
 * Fills a directory of the caller's own so that `path` is either what it was or complete: `fill` writes into a sibling
 * directory that then takes its place, and what was there is removed.
 */
export async function replaceDirectory(path: string, fill: Fill): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  const previous = `${path}.${process.pid}.old`;
  try {
    rmSync(temporary, { recursive: true, force: true });
    makeDirectory(temporary);
    await fill(temporary);
    syncDirectory(temporary);
    if (existsSync(path)) renameSync(path, previous);
    renameSync(temporary, path);
    syncDirectory(dirname(path));
    rmSync(previous, { recursive: true, force: true });
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    if (existsSync(previous) && !existsSync(path)) renameSync(previous, path);
    throw fileError('write', path, error);
  }
}

async function exchange(path: string, kind: Kind, fill: Fill): Promise<void> {
  const staging = join(path, `.${process.pid}`);
  try {
    makeDirectory(`${staging}.tmp`);
    await fill(`${staging}.tmp`);
    syncDirectory(`${staging}.tmp`);
    mkdirSync(`${staging}.old`);
    renameSync(`${staging}.tmp`, `${staging}.new`);
    moveFiles(path, `${staging}.old`, kind, 'marks first');
    renameSync(`${staging}.new`, `${staging}.put`);
    moveFiles(`${staging}.put`, path, kind, 'marks last');
    syncDirectory(path);
    removeFiles(`${staging}.old`, kind);
    rmdirSync(`${staging}.put`);
  } catch (error) {
    recoverInside(path, kind);
    throw fileError('write', path, error);
  }
}

/** Puts right what dead processes left of writing this directory: it is again what it was before, or complete. */
export function recoverDirectory(path: string, kind: Kind): void {
  try {
    recoverBeside(path, kind);
    if (existsSync(path)) recoverInside(path, kind);
  } catch (error) {
    throw fileError('write', path, error);
  }
}

/**
 * Where a directory is that a dead process moved away to put another in its place: both are still there. A directory
 * with such a name and no other beside it may be somebody's copy.
 */
export function movedAway(path: string): string | undefined {
  const directory = dirname(resolve(path));
  if (existsSync(path)) return undefined;
  return leftovers(directory, `${basename(path)}.`, 'old').find((old) =>
    existsSync(old.replace(/old$/, 'tmp')),
  );
}

function recoverBeside(path: string, kind: Kind): void {
  const old = movedAway(path);
  if (old !== undefined) renameSync(old, path);
  for (const unfinished of leftovers(dirname(path), `${basename(path)}.`, 'tmp'))
    removeFiles(unfinished, kind);
}

function recoverInside(path: string, kind: Kind): void {
  for (const unfinished of leftovers(path, '.', 'tmp')) removeFiles(unfinished, kind);
  for (const put of leftovers(path, '.', 'put')) {
    const old = put.replace(/put$/, 'old');
    if (readdirSync(put).length > 0) {
      // Some of the files in place are new, and all old ones are away.
      for (const name of filesOf(path, kind)) rmSync(join(path, name));
    } else if (existsSync(old)) {
      removeFiles(old, kind);
    }
    removeFiles(put, kind);
  }
  for (const old of leftovers(path, '.', 'old')) {
    moveFiles(old, path, kind, 'marks last');
    removeFiles(old, kind);
  }
  for (const complete of leftovers(path, '.', 'new')) removeFiles(complete, kind);
}

/** Directories `BEGIN PID.KIND` in a directory. */
function leftovers(directory: string, begin: string, kind: 'tmp' | 'old' | 'new' | 'put'): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter(
      (name) =>
        name.startsWith(begin) &&
        /^\d{1,7}\.\w+$/.test(name.slice(begin.length)) &&
        name.endsWith(`.${kind}`),
    )
    .map((name) => join(directory, name))
    .filter((path) => lstatSync(path).isDirectory());
}

/** Files of the kind in a directory, links included; their marks first. */
function filesOf(directory: string, { belongs, marks }: Kind): string[] {
  const names = readdirSync(directory).filter(
    (name) => belongs(name) && !lstatSync(join(directory, name)).isDirectory(),
  );
  return [...names.filter(marks), ...names.filter((name) => !marks(name))];
}

function moveFiles(from: string, to: string, kind: Kind, order: 'marks first' | 'marks last'): void {
  const names = filesOf(from, kind);
  for (const name of order === 'marks first' ? names : names.reverse()) {
    renameSync(join(from, name), join(to, name));
  }
}

/** Removes a directory of files of the kind, also half-written ones; one that holds anything else stays as it is. */
function removeFiles(directory: string, { belongs }: Kind): void {
  const names = readdirSync(directory);
  const ours = (name: string): boolean =>
    belongs(/^\.?(.+)\.\d+\.tmp$/.exec(name)?.[1] ?? name) && !lstatSync(join(directory, name)).isDirectory();
  if (!names.every(ours)) return;
  for (const name of names) rmSync(join(directory, name));
  rmdirSync(directory);
}
