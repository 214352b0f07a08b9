/** One process of `lock.ts`: `lock-child.ts DIRECTORY MILLISECONDS`. */
import { closeSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { RunError } from '../../src/errors.js';
import { lockDirectory } from '../../src/files/lock.js';

const [directory = '', milliseconds = '0'] = process.argv.slice(2);
const inside = join(directory, 'inside');
const end = performance.now() + Number(milliseconds);
let [acquired, violations] = [0, 0];

function tryLock(): (() => void) | null {
  try {
    return lockDirectory(directory, 'stress', { doing: 'stressing' });
  } catch (error) {
    if (error instanceof RunError && error.message.includes('is stressing there')) return null;
    throw error;
  }
}

/** The lock as a killed process leaves it: of an owner that is gone. */
function abandon(): void {
  const left = join(directory, `left-${process.pid}`);
  writeFileSync(
    left,
    JSON.stringify({ pid: 0, host: hostname(), began: null, token: `${process.pid} ${acquired}` }),
  );
  renameSync(left, join(directory, 'stress.lock'));
}

while (performance.now() < end) {
  const unlock = tryLock();
  if (unlock === null) continue;
  acquired += 1;
  try {
    closeSync(openSync(inside, 'wx'));
  } catch {
    violations += 1;
  }
  rmSync(inside, { force: true });
  if (acquired % 4 === 0) abandon();
  // Finds the lock of another owner in place of its own, and leaves it.
  unlock();
}
process.stdout.write(JSON.stringify({ acquired, violations }));
