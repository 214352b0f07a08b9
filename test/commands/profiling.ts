/** What the tests of profiling have in common: a tiny model on one thread, and a directory for its tables. */
import { readFileSync } from 'node:fs';
import type { Test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Row } from '../../src/results/schema.js';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { runCli } from '../cli/run.js';
import { usePlainBackend } from '../plain-backend.js';

export interface Profiling {
  /** A path in the test's own directory. */
  readonly at: (name?: string) => string;
  /** Flags of every run. @param out in place of the test's own directory */
  readonly common: (out?: string) => string[];
  /** What a table of the directory holds. */
  readonly text: (name: string) => string;
}

export function profiling(test: Test): Profiling {
  const at = scratchDirectory(test);
  test.after(usePlainBackend);
  return {
    at,
    common: (out = at()) => [
      '--preset',
      'pico',
      '--engine',
      'cpu',
      '--threads',
      '1',
      '--quiet',
      '--out',
      out,
    ],
    text: (name) => readFileSync(at(name), 'utf8'),
  };
}

/** The rows that a command prints; it must succeed. */
export async function printedRows(...argv: string[]): Promise<Row[]> {
  const { stdout, stderr, exitCode } = await runCli(...argv, '--format', 'json');
  assert.is(exitCode, 0, stderr);
  return JSON.parse(stdout) as Row[];
}
