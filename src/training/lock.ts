/** One process at a time trains in a directory: two would write into each other's log and checkpoints. */
import { readFileSync, rmSync, renameSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { RunError } from '../errors.js';
import { makeDirectory, writing } from '../files/write.js';

const NAME = 'train.lock';

/** Tells a process from a later one of the same number. */
interface Owner {
  readonly pid: number;
  readonly host: string;
  /** In clock ticks since the machine's start; null where the system does not say. */
  readonly began: string | null;
}

/** Locks of this process: a file with our number that is none of them was left by an earlier process. */
const held = new Set<string>();

/**
 * Locks a run's directory, making it where needed. The lock of a process that is gone, killed or crashed, is taken over.
 * @returns what unlocks it
 * @throws RunError where another process trains in it
 */
export function lockRun(directory: string): () => void {
  makeDirectory(directory);
  const file = join(directory, NAME);
  while (!claim(file)) {
    const owner = readOwner(file);
    if (owner === undefined) continue;
    if (isRunning(owner, file)) {
      const where = owner.host === hostname() ? '' : ` on ${owner.host}`;
      throw new RunError(
        `${directory}: process ${owner.pid}${where} is training there: wait for it, or give another --out (if it is gone, remove ${file})`,
      );
    }
    takeAway(file);
  }
  held.add(file);
  return () => {
    held.delete(file);
    rmSync(file, { force: true });
  };
}

/** Makes the lock; false where there is one. */
function claim(file: string): boolean {
  const owner: Owner = { pid: process.pid, host: hostname(), began: beginning(process.pid) };
  try {
    writing(file, () => {
      writeFileSync(file, `${JSON.stringify(owner)}\n`, { flag: 'wx' });
    });
    return true;
  } catch (error) {
    if (error instanceof RunError && (error.cause as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Undefined where the lock is gone by now. What cannot be read was cut short by a crash: nobody's. */
function readOwner(file: string): Owner | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return JSON.parse(text) as Owner;
  } catch {
    return { pid: 0, host: hostname(), began: null };
  }
}

function isRunning({ pid, host, began }: Owner, file: string): boolean {
  if (host !== hostname()) return true;
  if (pid === process.pid) return held.has(file);
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // Without permission to signal it, it runs.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  return began === null || beginning(pid) === began;
}

/** Of several that find a dead lock one moves it away; a lock made in the meantime stays. */
function takeAway(file: string): void {
  const aside = `${file}.${process.pid}`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  rmSync(aside, { force: true });
}

/** When a process began (Linux), null elsewhere: field 22 of its stat, the 20th after its name in parentheses. */
function beginning(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}
