/**
 * Trains a minute model in its own process and kills it (SIGKILL) at the `crashAt`th file operation after the first
 * step: `crash-child.ts RUN TEXT CRASH_AT`.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { trainSmall } from './small-run.js';

const [directory = '', text = '', crashAt = '0'] = process.argv.slice(2);
let remaining = Number(crashAt);
let counting = false;

const WATCHED = ['writeSync', 'fsyncSync', 'renameSync', 'rmSync', 'openSync'] as const;

function watch(name: (typeof WATCHED)[number]): void {
  const original = fs[name] as (...args: unknown[]) => unknown;
  (fs as unknown as Record<string, unknown>)[name] = (...args: unknown[]): unknown => {
    if (counting && --remaining === 0) process.kill(process.pid, 'SIGKILL');
    return original(...args);
  };
}
WATCHED.forEach(watch);
syncBuiltinESMExports();

await trainSmall(directory, text, {
  onProgress: () => {
    counting = true;
  },
});
