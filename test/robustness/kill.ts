/**
 * Kills training and conversion at random moments and at single renames, runs them again, and compares the bytes with a
 * run that was left alone. `npm run robustness -- kill [RANDOM] [RENAMES]`.
 */
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';
import { program } from '../cli/program.js';
import { makeCheckpoint, SMALL } from '../checkpoint/checkpoints.js';
import { Random } from '../../src/random.js';

export interface KillResult {
  readonly runs: number;
  /** Runs that ended by the kill; the others were done before. */
  readonly killed: number;
  /** Kills after which the bytes were others. */
  readonly differences: readonly string[];
}

/** Runs a script, killed after so many milliseconds (0: not at all). @returns whether the kill ended it */
async function runKilled(script: string, args: readonly string[], after: number): Promise<boolean> {
  const words = await program(fileURLToPath(new URL(script, import.meta.url)));
  const child = spawn(process.execPath, [...words, ...args], { stdio: 'ignore' });
  const timer = after > 0 ? setTimeout(() => child.kill('SIGKILL'), after) : undefined;
  return new Promise((resolve, reject) => {
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (signal === null && code !== 0)
        reject(new Error(`${script} ${args.join(' ')} ended with ${code ?? ''}`));
      else resolve(signal !== null);
    });
  });
}

/** Names and bytes below a directory, timings and journals aside: what a run must leave. */
function bytesOf(directory: string): string {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter(
      (entry) =>
        entry.isFile() && !/timings|run\.json|cells\.jsonl|^training\.json$|^config\.json$/.test(entry.name),
    )
    .map(({ parentPath, name }) => join(parentPath, name))
    .sort();
  return files
    .map((file) => `${file.slice(directory.length)} ${readFileSync(file).toString('base64')}`)
    .join('\n');
}

/** Goes on until so many runs were killed at random moments, and so many at single file operations. */
export async function killLoop(options: {
  random: number;
  renames: number;
  onKill?: (done: number) => void;
}): Promise<KillResult> {
  const directory = mkdtempSync(join(tmpdir(), 'yoco-kill-'));
  const at = (name: string): string => join(directory, name);
  const random = new Random('kill');
  const differences: string[] = [];
  let killed = 0;
  let done = 0;
  try {
    writeFileSync(at('text.txt'), 'the whale and the sea of a ship and a man '.repeat(100));
    await makeCheckpoint(at('source'), SMALL.retention ?? {});
    await makeCheckpoint(at('old'), SMALL.transformer ?? {});
    await convertCheckpoint(at('source'), at('converted'), { to: 'yoco' });
    const began = performance.now();
    await runKilled('../training/crash-child.ts', [at('whole'), at('text.txt'), '0'], 0);
    const duration = performance.now() - began;
    const expected = { train: bytesOf(at('whole')), convert: bytesOf(at('converted')) };

    const trial = async (task: 'train' | 'convert', crashAt: number, after: number): Promise<void> => {
      rmSync(at('run'), { recursive: true, force: true });
      if (task === 'convert') cpSync(at('old'), at('run'), { recursive: true });
      const script = task === 'train' ? '../training/crash-child.ts' : '../checkpoint/overwrite-child.ts';
      const args = task === 'train' ? [at('run'), at('text.txt')] : [at('source'), at('run')];
      if (await runKilled(script, [...args, String(crashAt)], after)) killed += 1;
      await runKilled(script, [...args, '0'], 0);
      if (bytesOf(at('run')) !== expected[task])
        differences.push(`${task}, operation ${crashAt}, ${after} ms`);
      options.onKill?.((done += 1));
    };
    for (let kill = 0; killed < options.random; kill++) {
      await trial(kill % 2 === 0 ? 'train' : 'convert', 0, 1 + random.below(Math.ceil(duration)));
    }
    for (let kill = 0; killed < options.random + options.renames; kill++) {
      const train = kill % 2 === 0;
      await trial(train ? 'train' : 'convert', train ? 1 + random.below(250) : 1 + (kill % 26), 0);
    }
    return { runs: done, killed, differences };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
