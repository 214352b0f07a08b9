/** The files of a data set on a hub that hold its text. */
import { dirname } from 'node:path';
import { RunError, UsageError } from '../../errors.js';
import { readBytes } from '../../files/read.js';
import type { RemoteFile } from '../../hub/download.js';
import type { Reference } from '../../hub/reference.js';
import { openRepository, type Repository } from '../../hub/repository.js';
import type { Configuration } from './card.js';

/** Kinds of files that are read as text, and by what is a part no name of a split. */
const TEXT = /\.(parquet|(jsonl|ndjson|json|txt)(\.(gz|xz|zst))?)$/i;
const FILE_OR_GLOB = /[*?[\]{}]|\.\w+$/;
const CARD = 'README.md';
const MAX_CARD_BYTES = 16 * 2 ** 20;

/**
 * Fetches the files of a split, or those that a glob names.
 * @returns their paths in the cache, in the order of their names or of the card
 * @throws UsageError where the reference leaves open which files are meant, RunError where they cannot be had
 */
export async function fetchTextFiles(reference: Reference): Promise<string[]> {
  const repository = await openRepository('dataset', reference);
  const { files } = repository;
  if (files === null) {
    throw new RunError(
      `${reference.text}: the cache does not say which files belong to it: run the command once without HF_HUB_OFFLINE`,
    );
  }
  const chosen = await choose(repository, files, reference);
  await repository.fetch(chosen);
  return chosen.map((file) => repository.pathOf(file));
}

async function choose(
  repository: Repository,
  files: readonly RemoteFile[],
  { text, part }: Reference,
): Promise<RemoteFile[]> {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const paths = [...byPath.keys()].filter((path) => TEXT.test(path)).sort();
  const { filesOfPart, matchPaths } = await import('./card.js');
  const names = part !== undefined && FILE_OR_GLOB.test(part) ? matchPaths(paths, [part]) : undefined;
  if (names?.length === 0)
    throw new UsageError(`${text}: no file of the data set matches: ${shorten(paths)}`);
  if (paths.length === 0) {
    throw new UsageError(
      `${text}: the data set has no .parquet, .jsonl, .json or .txt file; a converted copy may be at hf:owner/name@refs/convert/parquet`,
    );
  }
  const found = names ?? filesOfPart(text, await configurationsOf(repository, byPath.get(CARD), paths), part);
  const kinds = new Set(found.map((path) => TEXT.exec(path)?.[1]?.toLowerCase()));
  if (kinds.size > 1) {
    throw new UsageError(
      `${text}: the split has files of several kinds: name them by a glob, such as hf:owner/name:*.parquet: ${shorten(found)}`,
    );
  }
  return found.flatMap((path) => byPath.get(path) ?? []);
}

const shorten = (paths: readonly string[]): string =>
  paths.slice(0, 12).join(', ') + (paths.length > 12 ? `, and ${paths.length - 12} more` : '');

async function configurationsOf(
  repository: Repository,
  card: RemoteFile | undefined,
  paths: readonly string[],
): Promise<Configuration[]> {
  const { declaredConfigurations, splitsByName } = await import('./card.js');
  const declared =
    card === undefined
      ? []
      : declaredConfigurations(`${repository.label}: ${CARD}`, await readCard(repository, card), paths);
  return declared.length > 0 ? declared : configurationsByFolder(paths, splitsByName);
}

async function readCard(repository: Repository, card: RemoteFile): Promise<string> {
  await repository.fetch([card]);
  return readBytes(repository.pathOf(card), MAX_CARD_BYTES).toString('utf8');
}

/**
 * Without a card: all files together, by the splits that their names say. In the hub's converted copies, and where folders lie in
 * folders, they are `CONFIGURATION/SPLIT/FILE`.
 */
function configurationsByFolder(
  paths: readonly string[],
  splitsByName: (paths: readonly string[]) => Configuration['splits'],
): Configuration[] {
  const folders = new Map<string, string[]>();
  for (const path of paths) {
    const folder = inFolders(path)?.configuration ?? '.';
    folders.set(folder, [...(folders.get(folder) ?? []), path]);
  }
  return [...folders].map(([name, below]) => ({
    name,
    isDefault: folders.size === 1,
    splits: name === '.' ? splitsByName(below) : splitsByFolder(below),
  }));
}

function inFolders(path: string): { configuration: string; split: string } | undefined {
  const [configuration, ...others] = dirname(path).split('/');
  const split = others.at(-1);
  return configuration === undefined || split === undefined ? undefined : { configuration, split };
}

function splitsByFolder(paths: readonly string[]): Map<string, string[]> {
  const splits = new Map<string, string[]>();
  for (const path of paths) {
    const { split = '' } = inFolders(path) ?? {};
    splits.set(split, [...(splits.get(split) ?? []), path]);
  }
  return splits;
}

/**
 * Fetches files of a data set whose names are known.
 * @param isNeeded by path in the repository
 * @param what they are, for the error where there are none
 * @returns the directory in which they lie
 */
export async function fetchDirectory(
  reference: Reference,
  isNeeded: (path: string) => boolean,
  what: string,
): Promise<string> {
  if (reference.part !== undefined)
    throw new UsageError(
      `${reference.text}: leave ':${reference.part}' out: ${what} are read by their names`,
    );
  const repository = await openRepository('dataset', reference);
  const needed = repository.files?.filter(({ path }) => isNeeded(path)) ?? [];
  if (repository.files !== null && needed.length === 0)
    throw new UsageError(`${reference.text} has no ${what}`);
  return repository.fetch(needed);
}
