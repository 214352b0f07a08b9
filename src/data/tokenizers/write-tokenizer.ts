import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { makeDirectory, writeFileAtomic } from '../../files/write.js';
import { END_OF_TEXT_TOKEN } from './bpe-trainer.js';

/** Where a tokenizer is written: the target, a file ending in .json, or `tokenizer.json` in it, a directory. */
export function tokenizerFile(target: string): string {
  const isDirectory = existsSync(target) ? statSync(target).isDirectory() : !target.endsWith('.json');
  return isDirectory ? join(target, 'tokenizer.json') : target;
}

/**
 * Writes a trained tokenizer and, beside it, the `tokenizer_config.json` by which Hugging Face libraries load it.
 * @returns the path of the tokenizer
 * @throws RunError when that cannot be written
 */
export function writeTokenizer(target: string, description: object): string {
  const file = tokenizerFile(target);
  makeDirectory(dirname(file));
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    eos_token: END_OF_TEXT_TOKEN,
    clean_up_tokenization_spaces: false,
  };
  writeFileAtomic(join(dirname(file), 'tokenizer_config.json'), `${JSON.stringify(config, null, 2)}\n`);
  writeFileAtomic(file, `${JSON.stringify(description, null, 1)}\n`);
  return file;
}
