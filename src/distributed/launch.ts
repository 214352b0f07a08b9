/**
 * Several processes of one command on this machine, one per device, as one: signals are forwarded, lines come with the rank they
 * are from, and the first process that fails ends the others.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { RunError } from '../errors.js';
import { MpirunRemarks } from './mpirun-remarks.js';
import { MARK_LINES, rankMark, STOP_UNDER_MPIRUN } from './ranks.js';

/** What carries the tensors: NCCL between processes started here, or MPI between those that mpirun starts. */
export type Transport = 'nccl' | 'mpi';

export interface LaunchOptions {
  readonly ranks: number;
  readonly transport: Transport;
  /** Program and arguments of every rank. */
  readonly command: readonly [string, ...string[]];
  readonly environment: NodeJS.ProcessEnv;
  /** Takes what rank 0 writes to stdout, in the pieces that it comes in; default: to stdout. */
  readonly onOutput?: (piece: Uint8Array) => void;
  /** Takes every other line, marked by its rank; default: to stderr. */
  readonly onLine?: (line: string) => void;
  /**
   * How long the others may take to end after one has failed, before they are killed; default 10 s. One that waits for its GPU does
   * not hear SIGTERM.
   */
  readonly graceMilliseconds?: number;
}

export interface LaunchResult {
  /** 0, or the status of the first process that failed: 128 + N where signal N ended it. */
  readonly exitCode: number;
  /** Which rank failed first; null where none did, or mpirun did not say. */
  readonly failedRank: number | null;
  /** The last signal that was passed on to the ranks; null where there was none. */
  readonly signal: NodeJS.Signals | null;
}

/** How long ranks that were asked to stop may go on saving when the first of them has ended. */
const SAVING_MILLISECONDS = 60_000;

const TORCHRUN_VARIABLES: readonly string[] = ['RANK', 'WORLD_SIZE', 'LOCAL_RANK'];
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs to the end of all ranks.
 * @throws RunError where a process cannot be started
 */
export async function launchRanks(options: LaunchOptions): Promise<LaunchResult> {
  const isMpi = options.transport === 'mpi';
  const remarks = new MpirunRemarks(options.onLine ?? toStderr);
  const children = isMpi ? [startMpirun(options, remarks)] : await startEach(options);
  const group = new ProcessGroup(children, options.graceMilliseconds ?? 10_000);
  let passedOn: NodeJS.Signals | null = null;
  const forward = (signal: NodeJS.Signals): void => {
    passedOn = signal;
    group.stop(isMpi ? STOP_UNDER_MPIRUN : signal);
  };
  for (const signal of FORWARDED) process.on(signal, forward);
  try {
    const { exitCode, index } = await group.finished();
    remarks.end();
    const failedRank = isMpi ? remarks.failedRank : index;
    return { exitCode, failedRank: exitCode === 0 ? null : failedRank, signal: passedOn };
  } finally {
    for (const signal of FORWARDED) process.off(signal, forward);
  }
}

const toStdout = (piece: Uint8Array): void => void process.stdout.write(piece);
const toStderr = (line: string): void => void process.stderr.write(`${line}\n`);

async function startEach(options: LaunchOptions): Promise<ChildProcess[]> {
  const [program, ...args] = options.command;
  const port = await freePorts();
  return Array.from({ length: options.ranks }, (_, rank) => {
    const env = {
      ...options.environment,
      ...{ RANK: String(rank), LOCAL_RANK: String(rank), WORLD_SIZE: String(options.ranks) },
      ...{ MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(port) },
    };
    const child = start(program, args, env);
    const onLine = (line: string): void => {
      (options.onLine ?? toStderr)(rankMark(rank) + line);
    };
    if (rank === 0) child.stdout?.on('data', options.onOutput ?? toStdout);
    else onLines(child.stdout, onLine);
    onLines(child.stderr, onLine);
    return child;
  });
}

/**
 * mpirun can mark what it forwards (--tag-output), but begins every piece with a mark, in the middle of lines too. So the ranks
 * mark their own lines.
 */
function startMpirun(
  { ranks, command, environment, onOutput }: LaunchOptions,
  remarks: MpirunRemarks,
): ChildProcess {
  const root = process.getuid?.() === 0 ? ['--allow-run-as-root'] : [];
  const args = [...root, '--oversubscribe', '--bind-to', 'none', '-n', String(ranks)];
  // A container may come with torchrun's variables for one process.
  const own = Object.entries(environment).filter(([name]) => !TORCHRUN_VARIABLES.includes(name));
  const child = start('mpirun', [...args, ...command], { ...Object.fromEntries(own), [MARK_LINES]: '1' });
  child.stdout?.on('data', onOutput ?? toStdout);
  onLines(child.stderr, remarks.take);
  return child;
}

/** In a process group of its own: the terminal's Ctrl-C reaches it once, through us. */
function start(program: string, args: readonly string[], env: NodeJS.ProcessEnv): ChildProcess {
  return spawn(program, args, { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
}

function onLines(stream: Readable | null, onLine: (line: string) => void): void {
  if (stream !== null) createInterface({ input: stream, crlfDelay: Infinity }).on('line', onLine);
}

/** A free port whose next is free as well, where rank 0 is going to listen. */
async function freePorts(): Promise<number> {
  for (let attempt = 0; attempt < 20; attempt++) {
    const first = createServer();
    const port = await listening(first, 0);
    const next = createServer();
    const following = await listening(next, (port ?? 0) + 1);
    await Promise.all([first, next].map((server) => new Promise((resolve) => server.close(resolve))));
    if (port !== null && following !== null) return port;
  }
  throw new RunError('no two free ports next to each other on 127.0.0.1');
}

function listening(server: ReturnType<typeof createServer>, port: number): Promise<number | null> {
  return new Promise((resolve) => {
    server.once('error', () => {
      resolve(null);
    });
    server.listen(port, '127.0.0.1', () => {
      resolve((server.address() as AddressInfo).port);
    });
  });
}

class ProcessGroup {
  private failure: { exitCode: number; index: number } | null = null;
  private isStopping = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly children: readonly ChildProcess[],
    private readonly grace: number,
  ) {}

  /** Asks all to stop by a signal. They may save what they have, and end one after the other. */
  stop(signal: NodeJS.Signals): void {
    this.isStopping = true;
    this.signal(signal);
  }

  private signal(signal: NodeJS.Signals): void {
    for (const child of this.children) {
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) continue;
      try {
        process.kill(-child.pid, signal);
      } catch {
        // It ended meanwhile.
      }
    }
  }

  async finished(): Promise<{ exitCode: number; index: number }> {
    try {
      await Promise.all(this.children.map((child, index) => this.ended(child, index)));
    } finally {
      clearTimeout(this.timer);
    }
    return this.failure ?? { exitCode: 0, index: 0 };
  }

  private ended(child: ChildProcess, index: number): Promise<void> {
    return new Promise((resolve, reject) => {
      child.on('error', (error: NodeJS.ErrnoException) => {
        this.fail({ exitCode: 1, index });
        const reason = error.code === 'ENOENT' ? 'it is not installed, or not on the path' : error.message;
        reject(new RunError(`${child.spawnfile} cannot be started: ${reason}`));
      });
      // After its output has ended as well.
      child.on('close', (code, signal) => {
        const exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
        if (exitCode !== 0) this.fail({ exitCode, index });
        resolve();
      });
    });
  }

  /** The first failure ends all. */
  private fail(failure: { exitCode: number; index: number }): void {
    if (this.failure !== null) return;
    this.failure = failure;
    if (!this.isStopping) this.signal('SIGTERM');
    const wait = this.isStopping ? Math.max(this.grace, SAVING_MILLISECONDS) : this.grace;
    this.timer = setTimeout(() => {
      this.signal('SIGKILL');
    }, wait);
  }
}
