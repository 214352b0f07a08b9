import { copyFileSync, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileError } from '../files.js';

/** What belongs to a tokenizer or to generation in a Hugging Face directory and is copied as it is. */
const COMPANIONS = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'tokenizer.model',
  'generation_config.json',
] as const;

/** The `tokenizer.json` of a directory, null where it has none. */
export function tokenizerIn(directory: string): string | null {
  const path = join(directory, 'tokenizer.json');
  return existsSync(path) ? path : null;
}

/**
 * Copies a tokenizer that is a file, so that the checkpoint stands on its own.
 * @returns what the checkpoint calls its tokenizer: a name such as `bytes`, or `tokenizer.json` in its directory
 */
export function copyTokenizer(tokenizer: string | null, directory: string): string | null {
  if (tokenizer === null || !existsSync(tokenizer)) return tokenizer;
  for (const name of COMPANIONS) {
    // A tokenizer file may have any name; beside it lie the others under their usual ones.
    const source = name === 'tokenizer.json' ? tokenizer : join(dirname(tokenizer), name);
    if (!existsSync(source)) continue;
    try {
      copyFileSync(source, join(directory, name));
    } catch (error) {
      throw fileError('write', join(directory, name), error);
    }
  }
  return 'tokenizer.json';
}
