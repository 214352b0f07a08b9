/** Files that other files name: a name from a file never leads out of its directory. */
import { existsSync, realpathSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve, sep } from 'node:path';
import { RunError } from '../errors.js';

/**
 * The path of a file of a directory whose name was found in a file.
 *
 * The name is relative and has no `..`; where the file exists, symbolic links lead to a place in the directory too.
 * Only the cache of Hugging Face has its links out: `models--A--B/snapshots/REVISION/NAME` is a link to
 * `models--A--B/blobs/HASH`.
 * @param namedIn what named it, for the error: `runs/a/config.json: its 'tokenizer'`
 * @throws RunError for a name that is none or leads elsewhere
 */
export function insideFile(directory: string, name: unknown, namedIn: string): string {
  const fail = (problem: string): never => {
    const shown = JSON.stringify(typeof name === 'string' ? name.slice(0, 120) : typeof name);
    throw new RunError(`${namedIn}: ${shown} ${problem}`);
  };
  if (typeof name !== 'string' || name === '' || name.includes('\0')) return fail('is no name of a file');
  const parts = name.split(/[/\\]/);
  if (isAbsolute(name) || /^[a-z]:/i.test(name) || parts.includes('..')) {
    return fail('is not a file of the directory');
  }
  const path = join(directory, name);
  if (!existsSync(path)) return path;
  const [root, real] = [realpathSync(directory), realpathSync(path)];
  if (!real.startsWith(root + sep) && !isCached(resolve(directory), real)) {
    return fail('is a link out of the directory: put a copy of the file in its place');
  }
  return path;
}

/** Whether a file is a blob of the cache that a directory is a snapshot of. */
function isCached(directory: string, real: string): boolean {
  const snapshots = dirname(realpathSync(directory));
  return basename(snapshots) === 'snapshots' && dirname(real) === join(dirname(snapshots), 'blobs');
}
