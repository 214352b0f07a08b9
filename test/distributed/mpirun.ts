/** Runs a program as several MPI processes. */
import { execFile, spawnSync } from 'node:child_process';
import type { Test } from 'uvu';
import { skipBecause } from '../skip.js';

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const OPTIONS = ['--allow-run-as-root', '--oversubscribe', '--bind-to', 'none'];

/**
 * @param args of node, as `test/cli/program.ts` has them
 * @param environment set for every process, after mpirun has set its own
 */
export function mpirun(
  size: number,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Finished> {
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const command = ['env', ...variables, process.execPath, ...args];
  return new Promise((resolve) => {
    execFile('mpirun', [...OPTIONS, '-n', String(size), ...command], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 1, stdout, stderr });
    });
  });
}

/** Runs `body` in this process as if mpirun had started it: for what is refused before a rank meets the others. */
export async function asRank<T>(rank: number, size: number, body: () => Promise<T>): Promise<T> {
  const variables = {
    OMPI_COMM_WORLD_RANK: String(rank),
    OMPI_COMM_WORLD_SIZE: String(size),
    OMPI_COMM_WORLD_LOCAL_RANK: String(rank),
  };
  Object.assign(process.env, variables);
  try {
    return await body();
  } finally {
    for (const name of Object.keys(variables)) Reflect.deleteProperty(process.env, name);
  }
}

const isInstalled = spawnSync('mpirun', ['--version']).status === 0;

/** A test that is skipped where mpirun is not installed. */
export function mpiTest(test: Test, name: string, body: () => Promise<void>): void {
  if (isInstalled) test(name, body);
  else skipBecause('mpirun is not installed (Debian: openmpi-bin)', test, name);
}
