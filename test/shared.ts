/** Data that lies beside some checkouts and that the project does not carry. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'uvu';

const shared = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'shared');

/** The path of `../shared/NAME`, or null where it is absent: the test then skips with a message. */
export function sharedPath(name: string): string | null {
  const path = join(shared, name);
  return existsSync(path) ? path : null;
}

/** A test that needs `../shared/FILE`, whose path it is given; counted as skipped where that is absent. */
export function sharedTest(
  test: Test,
  file: string,
  name: string,
  run: (path: string) => void | Promise<void>,
): void {
  const path = sharedPath(file);
  if (path === null) test.skip(`${name} (needs ../shared/${file})`);
  else test(name, () => run(path));
}
