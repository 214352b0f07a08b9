/**
 * Runs every command with tiny work, as it is, with signals at random moments, and with every fsync failing, and finds
 * those that do not end, or that leave processes. `npm run robustness -- endings [RUNS] [COMMAND ...]`
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '../../src/package-root.js';
import { YOCO } from '../cli/program.js';
import { COMMANDS, writeInputs } from './commands.js';

export type Mode = 'plain' | 'signal' | 'fsync';

export interface Ending {
  readonly command: string;
  readonly mode: Mode;
  /** The command, or a process that it started, did nothing for five seconds and was still there. */
  readonly hung: boolean;
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const IDLE_MS = 5000;
const POLL_MS = 100;
/** Runs side by side: more than most machines of a test have cores to spare. */
const AT_ONCE = 4;

/** A library that lets every fsync fail, to be loaded before the C library; null where there is no compiler. */
export function buildFailingFsync(directory: string): string | null {
  if (process.platform !== 'linux') return null;
  const [source, library] = [join(directory, 'fsync.c'), join(directory, 'fsync.so')];
  const body = '(int fd) { (void)fd; errno = EIO; return -1; }\n';
  writeFileSync(source, `#include <errno.h>\nint fsync${body}int fdatasync${body}`);
  const { status } = spawnSync('cc', ['-shared', '-fPIC', '-o', library, source], { stdio: 'ignore' });
  return status === 0 && existsSync(library) ? library : null;
}

interface Process {
  readonly pid: number;
  /** User and system time in clock ticks. */
  readonly ticks: number;
  /** One of its threads would work if it had a core: on a loaded machine that may take seconds. */
  readonly isWaiting: boolean;
}

/** Running or about to (R), or waiting for a disk (D). */
const WAITING = /^[RD]/;

/** What follows the name in parentheses begins with the state. */
const statOf = (path: string): string => {
  const stat = readFileSync(path, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2);
};

/** In the environment of a command, and so of all that it starts: those of `launch` are in sessions of their own. */
const MARK = 'YOCO_ENDING';

/** Processes with this mark that have not ended. */
function processesOf(mark: string): Process[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      if (!readFileSync(`/proc/${name}/environ`, 'latin1').includes(`${MARK}=${mark}\0`)) return [];
      const words = statOf(`/proc/${name}/stat`).split(' ');
      if (words[0] === 'Z') return [];
      const threads = readdirSync(`/proc/${name}/task`);
      const isWaiting = threads.some((thread) => WAITING.test(statOf(`/proc/${name}/task/${thread}/stat`)));
      return [{ pid: Number(name), ticks: Number(words[11]) + Number(words[12]), isWaiting }];
    } catch {
      return [];
    }
  });
}

export interface EndingOptions {
  readonly mode: Mode;
  /** Where `writeInputs` has written; outputs go beside. */
  readonly directory: string;
  /** The library of `buildFailingFsync`, for mode `fsync`. */
  readonly preload?: string;
  /** Milliseconds in which the signal comes (default 4000). */
  readonly signalWithin?: number;
}

/** Runs one command until it and all that it started have ended, or have done nothing for five seconds. */
export async function endingOf(command: string, options: EndingOptions): Promise<Ending> {
  const { mode, directory, preload, signalWithin = 4000 } = options;
  const out = mkdtempSync(join(directory, 'out-'));
  const words = COMMANDS[command]?.(directory, out) ?? [];
  const stdout = openSync(join(directory, `${out.slice(-6)}.stdout`), 'w');
  const env = {
    ...process.env,
    [MARK]: out,
    YOCO_CACHE: join(directory, 'cache'),
    ...(mode === 'fsync' && preload !== undefined ? { LD_PRELOAD: preload } : {}),
  };
  const child = spawn(process.execPath, [...YOCO, ...words], {
    ...{ cwd: packageRoot, env },
    stdio: ['ignore', stdout, 'pipe'],
  });
  closeSync(stdout);
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const strike = (): void => {
    child.kill(SIGNALS[Math.floor(Math.random() * SIGNALS.length)]);
  };
  const timer = mode === 'signal' ? setTimeout(strike, Math.random() * signalWithin) : undefined;
  const closed = new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
    child.on('close', (status, signal) => {
      resolve([status, signal]);
    });
  });
  const hung = await outlive(out, () => child.exitCode !== null || child.signalCode !== null);
  const [status, signal] = await closed;
  clearTimeout(timer);
  rmSync(out, { recursive: true, force: true });
  return { command, mode, hung, status, signal, stderr };
}

/** Waits for the end of all processes with a mark. @returns whether it had to be killed */
async function outlive(mark: string, hasEnded: () => boolean): Promise<boolean> {
  let [before, idle] = [-1, 0];
  for (;;) {
    await sleep(POLL_MS);
    const processes = processesOf(mark);
    if (processes.length === 0) {
      // Nothing is alive; that it has ended may not have been told yet.
      if (hasEnded()) return false;
      continue;
    }
    const now = processes.reduce((sum, { ticks }) => sum + ticks, 0);
    const atWork = now !== before || processes.some(({ isWaiting }) => isWaiting);
    // Looks are counted, not seconds: where this process waits for a core, seconds pass without a look.
    idle = atWork ? 0 : idle + 1;
    before = now;
    if (idle * POLL_MS < IDLE_MS) continue;
    for (const { pid } of processes) kill(pid);
    return true;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended meanwhile.
  }
}

export interface EndingCounts {
  readonly command: string;
  readonly mode: Mode;
  readonly runs: number;
  readonly hung: readonly Ending[];
  /** How often each exit status, or signal, ended a run. */
  readonly statuses: Readonly<Record<string, number>>;
}

/**
 * Runs commands `runs` times, divided between the modes, several at once.
 * @param names which commands; default: all
 */
export async function endings(
  runs: number,
  names: readonly string[],
  onCounts: (counts: EndingCounts) => void,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'yoco-endings-'));
  try {
    writeInputs(directory);
    const preload = buildFailingFsync(directory) ?? undefined;
    const modes: Mode[] = preload === undefined ? ['plain', 'signal'] : ['plain', 'signal', 'fsync'];
    for (const command of names.length > 0 ? names : Object.keys(COMMANDS)) {
      let signalWithin = 1000;
      for (const mode of modes) {
        const options = { mode, directory, preload, signalWithin } as const;
        const began = performance.now();
        const ended = await repeat(Math.ceil(runs / modes.length), () => endingOf(command, options));
        if (mode === 'plain') signalWithin = ((performance.now() - began) / ended.length) * AT_ONCE;
        onCounts({
          ...{ command, mode, runs: ended.length },
          hung: ended.filter(({ hung }) => hung),
          statuses: count(ended.map(({ status, signal }) => String(signal ?? status))),
        });
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function repeat<T>(times: number, act: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let begun = 0;
  const worker = async (): Promise<void> => {
    while (begun++ < times) results.push(await act());
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

function count(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
