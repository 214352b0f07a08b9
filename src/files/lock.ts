/**
 * Locks between processes, as files that say who holds them.
 *
 * A lock is made whole or not at all: its content is written to a file of another name, and a hard link gives it the
 * lock's name, which fails where there is one. The lock of a process that is gone is removed under a lock of its own,
 * named after the content of the dead one. Whoever holds that looks again and removes the dead lock only if it is
 * still the same, so that a lock made in the meantime stays.
 */
import { createHash, randomUUID } from 'node:crypto';
import { linkSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as v from 'valibot';
import { RunError } from '../errors.js';
import { checkShape } from './json.js';
import { isRunning, thisProcess } from './process.js';
import type { ProcessId } from './process.js';
import { makeDirectory, writeNew, writing } from './write.js';

const OWNER = v.object({
  pid: v.number(),
  host: v.string(),
  began: v.optional(v.nullable(v.string()), null),
});

export interface LockOptions {
  /** What the holder does, as in `process 12 is training there`. */
  readonly doing: string;
  /** Let this process take the lock again while it holds it (default: refuse). */
  readonly reentrant?: boolean;
}

/** Another process has it. */
class LockedError extends RunError {}

const WAIT_MILLISECONDS = 200;

interface Found {
  /** Tells this lock from every other that had its name. */
  readonly id: string;
  /** Undefined where the content is none of ours: cut short by a crash of the machine, or made by hand. */
  readonly owner: ProcessId | undefined;
}

/** Locks of this process by their path: their content's id, and how often they were taken. */
const held = new Map<string, { readonly id: string; count: number }>();
let cleansAtExit = false;

/**
 * Locks `DIRECTORY/NAME.lock`, making the directory where needed. The lock of a process that has ended is replaced.
 * It is released when the process ends, if not before.
 * @returns what releases it
 * @throws RunError where another process holds it
 */
export function lockDirectory(directory: string, name: string, options: LockOptions): () => void {
  makeDirectory(directory);
  const file = join(realpathSync(directory), `${name}.lock`);
  const mine = held.get(file);
  if (mine !== undefined && options.reentrant === true) mine.count += 1;
  else take(file, options.doing, directory, join(directory, `${name}.lock`));
  let released = false;
  return () => {
    if (!released) release(file);
    released = true;
  };
}

/**
 * Locks like `lockDirectory`, and waits while another process holds it.
 * @param options.onWait called once, with who holds it
 */
export async function lockWhenFree(
  directory: string,
  name: string,
  { onWait, ...options }: LockOptions & { readonly onWait: (line: string) => void },
): Promise<() => void> {
  for (let waits = 0; ; waits += 1) {
    try {
      return lockDirectory(directory, name, options);
    } catch (error) {
      if (!(error instanceof LockedError)) throw error;
      if (waits === 0) onWait(`waiting: ${error.message}`);
      await sleep(WAIT_MILLISECONDS);
    }
  }
}

function take(file: string, doing: string, directory: string, shown: string): void {
  const owner = acquire(file);
  if (owner !== null) {
    const where = owner.host === hostname() ? '' : ` on ${owner.host}`;
    throw new LockedError(
      `${directory}: process ${owner.pid}${where} is ${doing} there: wait for it, or choose another directory (if it is gone, remove ${shown})`,
    );
  }
  sweep(file);
}

/** Takes a lock. @returns null, or the process that has it or is about to take it over */
function acquire(file: string): ProcessId | null {
  for (;;) {
    const id = create(file);
    if (id !== null) {
      held.set(file, { id, count: 1 });
      releaseAtExit();
      return null;
    }
    const found = read(file);
    if (found === undefined) continue;
    if (found.owner !== undefined && holds(found, found.owner, file)) return found.owner;
    const removing = `${file}.${found.id}`;
    const other = acquire(removing);
    if (other !== null) return other;
    if (read(file)?.id === found.id) rmSync(file, { force: true });
    release(removing);
  }
}

/** A lock with our number that we do not know of was left by an earlier process, unless it began when we did. */
function holds(found: Found, owner: ProcessId, file: string): boolean {
  if (owner.pid === process.pid && owner.began === null && owner.host === hostname()) {
    return held.get(file)?.id === found.id;
  }
  return isRunning(owner);
}

function release(file: string): void {
  const mine = held.get(file);
  if (mine === undefined || --mine.count > 0) return;
  held.delete(file);
  // A person may have removed it, and another process may have it now.
  if (read(file)?.id === mine.id) rmSync(file, { force: true });
}

function releaseAtExit(): void {
  if (cleansAtExit) return;
  cleansAtExit = true;
  process.once('exit', () => {
    for (const [file, lock] of held) {
      lock.count = 1;
      try {
        release(file);
      } catch {
        // The directory is gone, or cannot be written: the next process sees that we are gone.
      }
    }
  });
}

/** Makes the lock. @returns its id; null where there is one */
function create(file: string): string | null {
  const token = randomUUID().slice(-12);
  const content = `${JSON.stringify({ ...thisProcess(), token })}\n`;
  const prepared = `${file}.${token}.new`;
  return writing(file, () => {
    try {
      writeNew(prepared, content);
      linkSync(prepared, file);
      return idOf(content);
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') return null;
      if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(code)) throw error;
      return createWithoutLink(file, content);
    } finally {
      rmSync(prepared, { force: true });
    }
  });
}

/** For file systems without hard links: a process that looks in the instant before the content is there may take the lock too. */
function createWithoutLink(file: string, content: string): string | null {
  try {
    writeNew(file, content);
    return idOf(content);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return null;
    throw error;
  }
}

const idOf = (content: string): string => createHash('sha256').update(content).digest('hex').slice(0, 12);

/** Undefined where there is no lock, or none any more. */
function read(file: string): Found | undefined {
  let content: string;
  try {
    content = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  return { id: idOf(content), owner: ownerIn(file, content) };
}

function ownerIn(file: string, content: string): ProcessId | undefined {
  try {
    return checkShape(file, JSON.parse(content), OWNER);
  } catch {
    return undefined;
  }
}

/** Removes what processes left beside a lock that died while they took it; the lock itself is ours. */
function sweep(file: string): void {
  const [directory, base] = [dirname(file), `${basename(file)}.`];
  for (const name of readdirSync(directory)) {
    if (!name.startsWith(base) || !/^[0-9a-f]{12}(\.[0-9a-f]{12})*(\.new)?$/.test(name.slice(base.length)))
      continue;
    const path = join(directory, name);
    const owner = read(path)?.owner;
    if (owner === undefined || isRunning(owner)) continue;
    rmSync(path, { force: true });
  }
}
