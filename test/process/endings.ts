/**
 * Runs commands with tiny work, as they are, with signals at random moments, and with every fsync failing, and finds those that
 * do not end. `node --import tsx test/process/endings.ts [RUNS]` runs each RUNS times (200) and prints the counts.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../../src/package-root.js';

const checkpoint = join(packageRoot, 'checkpoints/needle');
const engine = ['--engine', 'cpu', '--threads', '2'];

/** Commands by name; each writes into the directory it is given. */
export const COMMANDS: Readonly<Record<string, (out: string) => string[]>> = {
  generate: () => ['generate', 'The whale', '-n', '2', '--checkpoint', checkpoint, ...engine],
  needle: (out) => ['needle', '--ctx', '512', '--checkpoint', checkpoint, ...engine, '--out', out],
  train: (out) =>
    `train --preset pico --steps 4 --batch 1 --length 32 --eval-tokens 64 --out ${out}`
      .split(' ')
      .concat(engine),
  perplexity: (out) => [
    'perplexity',
    '--positions',
    '64',
    '--checkpoint',
    checkpoint,
    ...engine,
    '--out',
    out,
  ],
  'profile-memory': (out) => ['profile-memory', '--analytic', '--ctx', '1k', '--out', out],
  help: () => ['--help'],
};

export type Mode = 'plain' | 'signal' | 'fsync';

export interface Ending {
  readonly command: string;
  readonly mode: Mode;
  /** Alive, silent and idle for five seconds. */
  readonly hung: boolean;
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const IDLE_MS = 5000;

/** A library that lets every fsync fail, to be loaded before the C library; null where there is no compiler. */
export function buildFailingFsync(directory: string): string | null {
  if (process.platform !== 'linux') return null;
  const [source, library] = [join(directory, 'fsync.c'), join(directory, 'fsync.so')];
  const body = '(int fd) { (void)fd; errno = EIO; return -1; }\n';
  writeFileSync(source, `#include <errno.h>\nint fsync${body}int fdatasync${body}`);
  const { status } = spawnSync('cc', ['-shared', '-fPIC', '-o', library, source], { stdio: 'ignore' });
  return status === 0 && existsSync(library) ? library : null;
}

/** User and system time of a process in clock ticks; null once it has ended. */
function ticks(pid: number): number | null {
  try {
    const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(/\) (?=[A-Z])/);
    const words = fields.split(' ');
    return words[0] === 'Z' ? null : Number(words[11]) + Number(words[12]);
  } catch {
    return null;
  }
}

/** Runs one command to its end, or until it has done nothing for five seconds. */
export function endingOf(
  command: string,
  mode: Mode,
  directory: string,
  preload: string | null,
): Promise<Ending> {
  const out = mkdtempSync(join(directory, 'out-'));
  const words = COMMANDS[command]?.(out) ?? [];
  const stdout = openSync(join(out, 'stdout'), 'w');
  const env = { ...process.env, ...(mode === 'fsync' && preload !== null ? { LD_PRELOAD: preload } : {}) };
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), 'bin/dev.js', ...words], {
    ...{ cwd: packageRoot, env },
    stdio: ['ignore', stdout, 'pipe'],
  });
  closeSync(stdout);
  const { pid = 0 } = child;
  let [stderr, hung, before, since] = ['', false, -1, performance.now()];
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const watch = setInterval(() => {
    const now = ticks(pid);
    if (now !== before) [before, since] = [now ?? -1, performance.now()];
    if (now === null || performance.now() - since < IDLE_MS) return;
    hung = true;
    child.kill('SIGKILL');
  }, 250);
  const strike = (): void => {
    child.kill(SIGNALS[Math.floor(Math.random() * SIGNALS.length)]);
  };
  const timer = mode === 'signal' ? setTimeout(strike, Math.random() * 4000) : undefined;
  return new Promise((resolve) => {
    child.on('close', (status, signal) => {
      clearInterval(watch);
      clearTimeout(timer);
      rmSync(out, { recursive: true, force: true });
      resolve({ command, mode, hung, status, signal, stderr });
    });
  });
}

async function main(runs: number): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'yoco-endings-'));
  const preload = buildFailingFsync(directory);
  const modes: Mode[] = preload === null ? ['plain', 'signal'] : ['plain', 'signal', 'fsync'];
  const LOAD = 4;
  let hangs = 0;
  for (const command of Object.keys(COMMANDS)) {
    for (const mode of modes) {
      const share = Math.ceil(runs / modes.length);
      const endings: Ending[] = [];
      const worker = async (): Promise<void> => {
        while (endings.length < share) endings.push(await endingOf(command, mode, directory, preload));
      };
      await Promise.all(Array.from({ length: LOAD }, worker));
      const hung = endings.filter((ending) => ending.hung);
      hangs += hung.length;
      process.stdout.write(`${command}, ${mode}: ${endings.length} runs, ${hung.length} hung\n`);
      for (const { stderr } of hung) process.stdout.write(`  ${stderr.split('\n').slice(-3).join(' | ')}\n`);
    }
  }
  rmSync(directory, { recursive: true, force: true });
  process.exitCode = hangs === 0 ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main(Number(process.argv[2] ?? 200));
