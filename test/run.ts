/**
 * Runs every `*.test.ts` below `test/` (or those whose path contains an argument) in one process and closes
 * with why tests were skipped and the plain line `N passed, N failed, N skipped`.
 */
import { readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { skipLines } from './skip.js';

const root = dirname(fileURLToPath(import.meta.url));
const wanted = process.argv.slice(2);
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter(
    (name) =>
      name.endsWith('.test.ts') && (wanted.length === 0 || wanted.some((part) => name.includes(part))),
  )
  .sort();

/** The globals by which uvu collects suites before it runs them: one queue entry per test file. */
// uvu reads these when it is first imported, hence the dynamic import.
const uvu = globalThis as unknown as { UVU_DEFER: number; UVU_QUEUE: [string | null][]; UVU_INDEX: number };
uvu.UVU_DEFER = 1;
uvu.UVU_QUEUE = [];
const { exec } = await import('uvu');

for (const [index, name] of files.entries()) {
  uvu.UVU_INDEX = index;
  uvu.UVU_QUEUE.push([relative(root, join(root, name))]);
  await import(pathToFileURL(join(root, name)).href);
}

let closing = '';
const write = process.stdout.write.bind(process.stdout);
process.stdout.write = (chunk: string | Uint8Array) => {
  closing += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
  return write(chunk);
};
await exec();
process.stdout.write = write;

const count = (label: string): number => Number(new RegExp(`${label}:\\s+(\\d+)`).exec(closing)?.[1] ?? 0);
const [total, passed, skipped] = [count('Total'), count('Passed'), count('Skipped')];
for (const line of skipLines()) write(`${line}\n`);
write(`${passed} passed, ${total - passed} failed, ${skipped} skipped\n`);
if (total + skipped === 0 || passed < total) process.exitCode = 1;
