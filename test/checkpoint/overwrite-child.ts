/**
 * Converts in its own process and kills it (SIGKILL) at the `crashAt`th change of the directory tree:
 * `overwrite-child.ts SOURCE DESTINATION CRASH_AT`.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';

const [source = '', destination = '', crashAt = '0'] = process.argv.slice(2);
let remaining = Number(crashAt);

for (const name of ['renameSync', 'rmSync', 'rmdirSync', 'mkdirSync'] as const) {
  const original = fs[name] as (...args: unknown[]) => unknown;
  (fs as unknown as Record<string, unknown>)[name] = (...args: unknown[]): unknown => {
    if (--remaining === 0) process.kill(process.pid, 'SIGKILL');
    return original(...args);
  };
}
syncBuiltinESMExports();
await convertCheckpoint(source, destination, { to: 'yoco', overwrite: true });
