/** Which process made a file, and whether it is still there. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

/** Tells a process from a later one of the same number. */
export interface ProcessId {
  readonly pid: number;
  readonly host: string;
  /** In clock ticks since the machine's start; null where the system does not say. */
  readonly began: string | null;
}

export function thisProcess(): ProcessId {
  return { pid: process.pid, host: hostname(), began: beginning(process.pid) };
}

/** Whether the process may be at work. What runs on another machine cannot be known: it counts as running. */
export function isRunning({ pid, host, began }: ProcessId): boolean {
  if (host !== hostname()) return true;
  if (!hasProcess(pid)) return false;
  return began === null || beginning(pid) === began;
}

/** Whether this machine has a process of that number. */
export function hasProcess(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Without permission to signal it, it runs.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
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
