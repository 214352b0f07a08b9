/** Which files are which split of a data set: as its card says, or else by their names. */
import picomatch from 'picomatch';
import * as v from 'valibot';
import { parse } from 'yaml';
import { RunError, UsageError } from '../../errors.js';
import { checkShape } from '../../files/json.js';
import { printable } from '../../printable.js';

const PATHS = v.union([v.string(), v.array(v.string())]);
const CONFIGURATIONS = v.array(
  v.object({
    config_name: v.optional(v.string(), 'default'),
    default: v.optional(v.boolean(), false),
    data_dir: v.optional(v.string(), ''),
    data_files: v.optional(v.union([PATHS, v.array(v.object({ split: v.string(), path: PATHS }))])),
  }),
);

/** A configuration of a data set: its splits, with the patterns or names of their files. */
export interface Configuration {
  readonly name: string;
  readonly isDefault: boolean;
  readonly splits: ReadonlyMap<string, readonly string[]>;
}

const listOf = <T>(value: T | readonly T[]): readonly T[] =>
  Array.isArray(value) ? (value as readonly T[]) : [value as T];

/**
 * The configurations that the card of a data set (`README.md`) declares, with the files that match; none where it declares
 * none.
 * @param where names the card in errors
 * @throws RunError for a card that is malformed
 */
export function declaredConfigurations(
  where: string,
  card: string,
  paths: readonly string[],
): Configuration[] {
  const [, front] = /^---\r?\n([^]*?)\r?\n---/.exec(card) ?? [];
  const { configs } = (front === undefined ? {} : (parseYaml(where, front) ?? {})) as { configs?: unknown };
  if (configs === undefined || configs === null) return [];
  return checkShape(`${where}: configs`, configs, CONFIGURATIONS).map((declared) => {
    const { config_name: name, default: isDefault, data_dir: directory, data_files: files } = declared;
    const below = (pattern: string): string =>
      directory === '' ? pattern : `${directory.replace(/\/$/, '')}/${pattern}`;
    if (files === undefined)
      return { name, isDefault, splits: splitsByName(matchPaths(paths, [below('**')])) };
    const splits = new Map<string, readonly string[]>();
    for (const item of listOf<string | { split: string; path: string | string[] }>(files)) {
      const { split, path } = typeof item === 'string' ? { split: 'train', path: item } : item;
      const matching = matchPaths(paths, listOf(path).map(below));
      splits.set(split, [...(splits.get(split) ?? []), ...matching]);
    }
    return { name, isDefault, splits };
  });
}

function parseYaml(where: string, text: string): unknown {
  try {
    return parse(text, { maxAliasCount: 100 });
  } catch (error) {
    throw new RunError(`${where}: its YAML is malformed: ${printable(String(error), 200)}`, {
      cause: error,
    });
  }
}

/** Paths that match one of the patterns, in their order. */
export function matchPaths(paths: readonly string[], patterns: readonly string[]): string[] {
  const isMatch = picomatch([...patterns]);
  return paths.filter((path) => patterns.includes(path) || isMatch(path));
}

/** Words in names of files and folders by which the field knows a split. */
const SPLIT_WORDS: readonly (readonly [split: string, words: RegExp])[] = [
  ['train', /^(train|training)$/],
  ['validation', /^(validation|valid|val|dev)$/],
  ['test', /^(test|testing|eval|evaluation)$/],
];

/** The split that a path names, its file name before its folders; `train` where it names none. */
function splitOf(path: string): string {
  for (const part of path.toLowerCase().split('/').reverse()) {
    const words = part.split(/[^a-z]+/);
    const found = SPLIT_WORDS.find(([, pattern]) => words.some((word) => pattern.test(word)));
    if (found !== undefined) return found[0];
  }
  return 'train';
}

/** Files by the splits that their names say. */
export function splitsByName(paths: readonly string[]): Map<string, string[]> {
  const splits = new Map<string, string[]>();
  for (const path of paths) splits.set(splitOf(path), [...(splits.get(splitOf(path)) ?? []), path]);
  return splits;
}

/**
 * The files of a part: `split`, `configuration/split`, or nothing where there is one of each.
 * @param shown the reference, for errors
 * @throws UsageError that names what there is
 */
export function filesOfPart(
  shown: string,
  configurations: readonly Configuration[],
  part?: string,
): readonly string[] {
  const slash = part?.lastIndexOf('/') ?? -1;
  const [named, split] = slash < 0 ? [undefined, part] : [part?.slice(0, slash), part?.slice(slash + 1)];
  const names = configurations.map(({ name }) => name);
  const configuration =
    named === undefined
      ? (configurations.find(({ isDefault, name }) => isDefault || name === 'default') ??
        (configurations.length === 1 ? configurations[0] : undefined))
      : configurations.find(({ name }) => name === named);
  if (configuration === undefined) {
    const problem = named === undefined ? 'has several configurations' : `has no configuration '${named}'`;
    throw new UsageError(
      `${shown} ${problem}: name one as hf:owner/name:CONFIGURATION/SPLIT, of ${names.join(', ')}`,
    );
  }
  const { splits } = configuration;
  const [only, ...others] = splits.keys();
  const chosen = split ?? (others.length === 0 ? only : undefined);
  const files = chosen === undefined ? undefined : splits.get(chosen);
  if (files !== undefined && files.length > 0) return files;
  const problem = split === undefined ? 'has several splits' : `has no split '${split}'`;
  throw new UsageError(
    `${shown} ${problem}: name one as hf:owner/name:SPLIT, of ${[...splits.keys()].join(', ')}`,
  );
}
