/** Data that lies beside some checkouts and that the project does not carry. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const shared = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'shared');

/** The path of `../shared/NAME`, or null where it is absent: the test then skips with a message. */
export function sharedPath(name: string): string | null {
  const path = join(shared, name);
  return existsSync(path) ? path : null;
}
