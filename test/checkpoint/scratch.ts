import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'uvu';
import * as assert from 'uvu/assert';
import { YocoError } from '../../src/errors.js';

/** A directory that exists during each test of a suite; gives the path of a file in it. */
export function scratchDirectory(test: Test): (name?: string) => string {
  let directory = '';
  test.before.each(() => {
    directory = mkdtempSync(join(tmpdir(), 'yoco-checkpoint-'));
  });
  test.after.each(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return (name = '') => join(directory, name);
}

export function writeBytes(path: string, ...parts: (string | Uint8Array)[]): string {
  writeFileSync(path, Buffer.concat(parts.map((part) => Buffer.from(part as Uint8Array))));
  return path;
}

function checkRefusal(error: unknown, expected: RegExp): void {
  assert.instance(error, YocoError, `not an error for a person: ${String(error)}`);
  assert.match((error as YocoError).message, expected);
  assert.not.match((error as YocoError).message, /\n/);
}

/** Asserts that `act` fails as it should for a person: in one line that matches. */
export function refuses(act: () => unknown, expected: RegExp): void {
  try {
    act();
  } catch (error) {
    checkRefusal(error, expected);
    return;
  }
  assert.unreachable(`expected to be refused: ${String(expected)}`);
}

/** `refuses` for what fails later. */
export async function rejects(act: Promise<unknown>, expected: RegExp): Promise<void> {
  const outcome: unknown = await act.then(
    () => null,
    (error: unknown) => error,
  );
  if (outcome === null) assert.unreachable(`expected to be refused: ${String(expected)}`);
  checkRefusal(outcome, expected);
}
