/** Fetches the published sets of tasks and writes them in the form that `eval` and `eval-mmlu` read. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'csv-stringify/sync';
import { RunError, UsageError } from '../../errors.js';
import { cacheFolder } from '../../files/cache.js';
import { makeDirectory, writeFileAtomic } from '../../files/write.js';
import { parseReference, type Reference } from '../../hub/reference.js';
import { hubInputs, type HubInput } from '../../hub/repository.js';
import { fetchTextFiles } from '../hub/text-files.js';
import type { DataRow } from '../parquet.js';
import { readRows } from '../rows.js';
import { MMLU_PARTS, MMLU_SET, mmluQuestion, PUBLISHED_SETS, type PublishedSet } from './sets.js';

/** Where sets are put when no directory is named. */
export const dataFolder = (): string => cacheFolder('data');

/** Where sets are put in a directory, and found. */
export const fetchedTasks = (folder = dataFolder()): string => join(folder, 'tasks');
export const fetchedMmlu = (folder = dataFolder()): string => join(folder, 'mmlu');

export const SET_NAMES: readonly string[] = ['mmlu', ...Object.keys(PUBLISHED_SETS)];

/** The hub's own copy of every set as Parquet, also of those that were published as a program. */
const CONVERTED = 'refs/convert/parquet';

export interface SetDescription {
  readonly name: string;
  readonly repository: string;
  readonly configuration: string | null;
  /** The split of the questions. */
  readonly split: string;
  /** Its rows, as the field knows them. */
  readonly items: number;
  /** The file or directory, where it has been fetched. */
  readonly path: string | null;
}

/** What can be fetched, and what has been. */
export function listSets(folder = dataFolder()): SetDescription[] {
  const there = (path: string): string | null => (existsSync(path) ? path : null);
  const tasks = Object.entries(PUBLISHED_SETS).map(([name, set]): SetDescription => {
    const [questions] = set.splits;
    return {
      ...{ name, repository: set.repository, configuration: set.configuration ?? null },
      ...{ split: questions?.split ?? '', items: questions?.rows ?? 0 },
      path: there(join(fetchedTasks(folder), `${set.file}.jsonl`)),
    };
  });
  const mmlu = {
    name: 'mmlu',
    ...MMLU_SET,
    split: 'test',
    items: 14_042,
    path: there(join(fetchedMmlu(folder), 'test')),
  };
  return [mmlu, ...tasks];
}

export interface FetchOptions {
  /** Default: the cache. */
  readonly folder?: string;
  /** Branch, tag or commit; default `main` or, where that has no data files, the hub's converted copy. */
  readonly revision?: string;
  readonly note?: (line: string) => void;
}

export interface FetchedSet {
  readonly name: string;
  readonly repository: string;
  readonly commit: string;
  readonly items: number;
  /** The file, or the directory of MMLU. */
  readonly path: string;
  /** Of the files written, by name. */
  readonly sha256: Readonly<Record<string, string>>;
}

/**
 * Fetches a set and converts it. Beside the files lies NAME.source.json: repository, commit, and hashes of what was read and
 * written.
 * @throws UsageError for an unknown name, RunError for a set that cannot be had or has other columns than it is known for
 */
export async function fetchSet(name: string, options: FetchOptions = {}): Promise<FetchedSet> {
  const { folder = dataFolder() } = options;
  const set = Object.hasOwn(PUBLISHED_SETS, name) ? PUBLISHED_SETS[name] : undefined;
  if (name !== 'mmlu' && set === undefined) {
    throw new UsageError(`no set '${name}': the sets are ${SET_NAMES.join(', ')}`);
  }
  const written = new WrittenFiles(set === undefined ? fetchedMmlu(folder) : fetchedTasks(folder));
  const source = new Source(set ?? MMLU_SET, options);
  const items =
    set === undefined
      ? await writeMmlu(source, written, options)
      : await writeTask(set, source, written, options);
  const { repository, commit, files } = source.input();
  const file = `${set?.file ?? name}.source.json`;
  const sha256 = written.flush({
    file,
    content: { set: name, repository, revision: source.revision, commit, files },
  });
  const path = set === undefined ? written.directory : join(written.directory, `${set.file}.jsonl`);
  return { name, repository, commit, items, path, sha256 };
}

/** Files that are written together, when all of them are known. */
class WrittenFiles {
  private readonly contents = new Map<string, string>();

  constructor(readonly directory: string) {}

  add(name: string, content: string): void {
    this.contents.set(name, content);
  }

  /** @returns SHA-256 by name */
  flush({ file, content }: { file: string; content: object }): Record<string, string> {
    const hashes = [...this.contents].map(
      ([name, text]) => [name, createHash('sha256').update(text).digest('hex')] as const,
    );
    for (const [name, text] of this.contents) {
      const path = join(this.directory, name);
      makeDirectory(join(path, '..'));
      writeFileAtomic(path, text);
    }
    const sha256 = Object.fromEntries(hashes);
    writeFileAtomic(
      join(this.directory, file),
      `${JSON.stringify({ ...content, written: sha256 }, null, 2)}\n`,
    );
    return sha256;
  }
}

/** The repository of a set, at the revision that turns out to have its files. */
class Source {
  revision: string;
  private readonly references: Reference[] = [];

  constructor(
    private readonly set: { readonly repository: string; readonly configuration?: string },
    private readonly options: FetchOptions,
  ) {
    this.revision = options.revision ?? 'main';
  }

  /** The rows of a split, each converted. @throws RunError naming file and row */
  async rows<T>(split: string, convert: (row: DataRow) => T): Promise<T[]> {
    const rows: T[] = [];
    for (const file of await this.files(split)) {
      let number = 0;
      for await (const row of readRows(file)) {
        number += 1;
        try {
          rows.push(convert(row));
        } catch (error) {
          throw new RunError(`${file}: row ${number}: ${error instanceof Error ? error.message : ''}`, {
            cause: error,
          });
        }
      }
    }
    return rows;
  }

  private async files(split: string): Promise<string[]> {
    try {
      return await this.filesAt(split);
    } catch (error) {
      const isProgram = error instanceof UsageError && error.message.includes(CONVERTED);
      if (!isProgram || this.options.revision !== undefined || this.revision === CONVERTED) throw error;
      this.revision = CONVERTED;
      return this.filesAt(split);
    }
  }

  private async filesAt(split: string): Promise<string[]> {
    const { repository, configuration } = this.set;
    const part = configuration === undefined ? split : `${configuration}/${split}`;
    const reference = parseReference(`hf:${repository}@${this.revision}:${part}`);
    const files = await fetchTextFiles(reference);
    this.references.push(reference);
    return files;
  }

  input(): HubInput {
    const { text } = this.references.at(-1) ?? parseReference(`hf:${this.set.repository}`);
    const found = hubInputs([text])[text]?.find(({ kind }) => kind === 'dataset');
    if (found === undefined) throw new Error(`${text} was not fetched`);
    return found;
  }
}

function checkCount(name: string, found: number, expected: number | undefined, { note }: FetchOptions): void {
  if (found === 0) throw new RunError(`${name}: the set has no rows`);
  if (expected === undefined || found === expected) return;
  note?.(
    `${name} has ${found.toLocaleString('en-US')} items; it is known with ${expected.toLocaleString('en-US')}`,
  );
}

const jsonLines = (items: readonly object[]): string =>
  items.map((item) => `${JSON.stringify(item)}\n`).join('');

async function writeTask(
  set: PublishedSet,
  source: Source,
  written: WrittenFiles,
  options: FetchOptions,
): Promise<number> {
  let questions = 0;
  for (const { split, suffix, rows } of set.splits) {
    const items = await source.rows(split, set.convert);
    checkCount(set.file + suffix, items.length, rows, options);
    written.add(`${set.file}${suffix}.jsonl`, jsonLines(items));
    if (suffix === '') questions = items.length;
  }
  return questions;
}

/** `{dev,val,test}/SUBJECT_{dev,val,test}.csv`, as MMLU was first published. */
async function writeMmlu(source: Source, written: WrittenFiles, options: FetchOptions): Promise<number> {
  let questions = 0;
  for (const { split, folder, rows } of MMLU_PARTS) {
    const all = await source.rows(split, mmluQuestion);
    checkCount(`mmlu ${folder}`, all.length, rows, options);
    const subjects = new Map<string, (readonly string[])[]>();
    for (const { subject, cells } of all) subjects.set(subject, [...(subjects.get(subject) ?? []), cells]);
    for (const [subject, cells] of subjects)
      written.add(join(folder, `${subject}_${folder}.csv`), stringify(cells));
    if (folder === 'test') questions = all.length;
  }
  return questions;
}
