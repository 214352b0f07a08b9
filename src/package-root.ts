import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The directory of package.json, with a closing slash: where `experiments/` and `checkpoints/` are found. */
export const packageRoot = fileURLToPath(new URL('..', import.meta.url));

const require = createRequire(import.meta.url);

/**
 * The directory of an installed package, found without loading it: in `runtime/`, where our install script puts ONNX
 * Runtime, or where Node looks. Null where it is not installed.
 */
export function packageDirectory(name: string): string | null {
  const folders = [join(packageRoot, 'runtime', 'node_modules'), ...(require.resolve.paths(name) ?? [])];
  const found = folders
    .map((folder) => join(folder, name))
    .find((path) => existsSync(join(path, 'package.json')));
  return found ?? null;
}

/** The version of this toolkit. */
export function toolkitVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version;
}
