/**
 * Runs every `*.test.ts` below `test/` (or those whose path contains an argument), in as many processes as there are
 * processors, and closes with why tests were skipped and the plain line `N passed, N failed, N skipped`.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runFiles } from './runner/run-files.js';

/** A process takes about a gigabyte. */
const MOST_PROCESSES = 8;

const root = dirname(fileURLToPath(import.meta.url));
const wanted = process.argv.slice(2);
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter(
    (name) =>
      name.endsWith('.test.ts') && (wanted.length === 0 || wanted.some((part) => name.includes(part))),
  )
  .sort();

// Tests start a built command line in half the time, and one of them builds in any case.
if (wanted.length === 0)
  spawnSync(process.execPath, [join(root, '../scripts/build.js')], { stdio: 'inherit' });

// All tests are on the one GPU then.
const isOnGpu = process.env.YOCO_TEST_ENGINE === 'cuda';
const processes = isOnGpu ? 1 : Math.min(availableParallelism(), MOST_PROCESSES);
const print = (text: string): void => void process.stdout.write(text);
const { passed, failed, skipped } = await runFiles({ root, files, processes, print });
print(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
if (failed > 0 || passed + skipped === 0) process.exitCode = 1;
