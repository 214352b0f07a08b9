/** Finds training runs below directories, and gives each a name of its own. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { RunError, UsageError } from '../../errors.js';

export interface RunPlace {
  /** Directory relative to the given one; after its name where several are given. */
  readonly name: string;
  readonly directory: string;
}

const RECORD = 'train.run.json';

/**
 * Directories that hold a `train.run.json`, in the order of their names.
 * @throws UsageError for a directory that does not exist, or names that two runs share; RunError where there are no runs
 */
export function findRuns(directories: readonly string[]): RunPlace[] {
  const places = directories.flatMap((directory) => {
    if (!existsSync(directory)) throw new UsageError(`there is no directory ${directory}`);
    const own = basename(resolve(directory));
    return readdirSync(directory, { recursive: true, encoding: 'utf8' })
      .filter((path) => basename(path) === RECORD)
      .map((path) => dirname(path))
      .sort()
      .map((place) => ({
        name: place === '.' ? own : directories.length > 1 ? `${own}/${place}` : place,
        directory: join(directory, place),
      }));
  });
  if (places.length === 0) {
    throw new RunError(`no training runs below ${directories.join(', ')}: train with yoco train --out`);
  }
  const names = places.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) < index);
  if (twice === undefined) return places;
  throw new UsageError(`two runs are called '${twice}': give directories with different names`);
}
