import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isTokenizerName, loadTokenizer } from '../../data/tokenizer.js';
import { readTokenIds } from '../../data/tokenizers/conventions.js';
import type { TokenIds } from '../../data/tokenizers/conventions.js';
import { RunError } from '../../errors.js';
import { insideFile } from '../../files/inside.js';
import { readBytes } from '../../files/read.js';
import { writeFileAtomic } from '../../files/write.js';
import { writeJson } from '../files.js';

const GENERATION = 'generation_config.json';

/** What belongs to a tokenizer or to generation in a Hugging Face directory and is copied as it is. */
const COMPANIONS = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'tokenizer.model',
  GENERATION,
] as const;

/** The `tokenizer.json` of a directory, null where it has none. */
export function tokenizerIn(directory: string): string | null {
  const path = join(directory, 'tokenizer.json');
  return existsSync(path) ? path : null;
}

/** A tokenizer of a quarter of a million tokens has 33 MB. */
const MAX_BYTES = 256 * 2 ** 20;

/** The files that are copied with a tokenizer, by the names they get. */
function filesOf(tokenizer: string): [name: string, source: string][] {
  // A tokenizer file may have any name; beside it lie the others under their usual ones.
  const files = COMPANIONS.map((name): [string, string] => [
    name,
    name === 'tokenizer.json' ? tokenizer : join(dirname(tokenizer), name),
  ]);
  return files.filter(([, source]) => existsSync(source));
}

/**
 * Checks that no file of a checkpoint's tokenizer is a link out of its directory: what is copied from a checkpoint is
 * the checkpoint's. (A tokenizer that a person names may be a link.)
 * @throws RunError naming the file
 */
export function requireOwnTokenizer(tokenizer: string | null): void {
  if (tokenizer === null || isTokenizerName(tokenizer)) return;
  for (const [, source] of filesOf(tokenizer))
    insideFile(dirname(tokenizer), basename(source), `the tokenizer ${tokenizer}`);
}

/**
 * Copies a tokenizer that is a file, so that the checkpoint stands on its own.
 * @returns what the checkpoint calls its tokenizer: a name such as `bytes`, or `tokenizer.json` in its directory
 * @throws RunError where it is missing, or one of its files is too large or not a regular file
 */
export function copyTokenizer(tokenizer: string | null, directory: string): string | null {
  if (tokenizer === null || isTokenizerName(tokenizer)) return tokenizer;
  if (!existsSync(tokenizer))
    throw new RunError(`cannot copy the tokenizer ${tokenizer}: there is no such file`);
  for (const [name, source] of filesOf(tokenizer)) {
    writeFileAtomic(join(directory, name), readBytes(source, MAX_BYTES));
  }
  keepTokenIds(dirname(tokenizer), directory);
  return 'tokenizer.json';
}

/** Ids that only the model's `config.json` names would be lost with it: they go to `generation_config.json`. */
function keepTokenIds(source: string, directory: string): void {
  const file = join(directory, GENERATION);
  if (existsSync(file)) return;
  const { begin, end, padding } = readTokenIds(source);
  const fields = {
    ...(begin === null ? {} : { bos_token_id: begin }),
    ...(end.length === 0 ? {} : { eos_token_id: end.length > 1 ? end : end[0] }),
    ...(padding === null ? {} : { pad_token_id: padding }),
  };
  if (Object.keys(fields).length > 0) writeJson(file, fields);
}

/**
 * The ids of a model's tokens: those its files name, else those of its tokenizer.
 * @param tokenizer what `loadTokenizer` takes; null where that is not known
 */
export async function tokenIdsOf(tokenizer: string | null, named?: TokenIds): Promise<TokenIds> {
  const own = tokenizer === null ? null : await conventionIds(tokenizer);
  const end = named?.end ?? [];
  return {
    begin: named?.begin ?? own?.begin ?? null,
    end: end.length > 0 ? end : (own?.end ?? []),
    padding: named?.padding ?? own?.padding ?? null,
  };
}

async function conventionIds(tokenizer: string): Promise<TokenIds> {
  const { beginOfText, stopTokens, padding } = await loadTokenizer(tokenizer);
  return { begin: beginOfText, end: stopTokens, padding };
}
