/** Data that lies beside some checkouts and that the project does not carry. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'uvu';
import { skipBecause } from './skip.js';

const shared = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'shared');

/** The path of `../shared/NAME`, or null where it is absent. */
export function sharedPath(name: string): string | null {
  const path = join(shared, name);
  return existsSync(path) ? path : null;
}

/** A test that needs `../shared/FILE`, whose path it is given; skipped, with the reason, where that is absent. */
export function sharedTest(
  test: Test,
  file: string,
  name: string,
  run: (path: string) => void | Promise<void>,
): void {
  const path = sharedPath(file);
  if (path === null) skipBecause(`needs ../shared/${file}`, test, name);
  else test(name, () => run(path));
}
