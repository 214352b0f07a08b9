/**
 * Whether processes are ever in a lock together: several take it as fast as they can, every fourth time leaving it as
 * a process does that is killed. `npm run robustness -- lock [SECONDS]`.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { program } from '../cli/program.js';

export interface LockStress {
  readonly acquired: number;
  /** How often a process found another in the lock it held. */
  readonly violations: number;
}

export async function stressLock(options: { processes: number; milliseconds: number }): Promise<LockStress> {
  const directory = mkdtempSync(join(tmpdir(), 'yoco-lock-'));
  try {
    const runs = Array.from({ length: options.processes }, () => child(directory, options.milliseconds));
    const results = await Promise.all(runs);
    const sum = (name: keyof LockStress): number =>
      results.reduce((total, result) => total + result[name], 0);
    return { acquired: sum('acquired'), violations: sum('violations') };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function child(directory: string, milliseconds: number): Promise<LockStress> {
  const script = fileURLToPath(new URL('lock-child.ts', import.meta.url));
  const words = await program(script);
  const process_ = spawn(process.execPath, [...words, directory, String(milliseconds)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  process_.stdout.on('data', (data: Buffer) => (output += data.toString()));
  return new Promise((resolve, reject) => {
    process_.on('close', (code) => {
      if (code === 0) resolve(JSON.parse(output) as LockStress);
      else reject(new Error(`a process of the stress ended with ${code ?? 'a signal'}`));
    });
  });
}
