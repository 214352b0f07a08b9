/** Text to token ids and back. `loadTokenizer` is the only way the rest of the code gets one. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UsageError } from '../errors.js';
import { isReference } from '../hub/reference.js';
import type { Tokenizer } from './tokenizers/base.js';
import { SymbolsTokenizer, symbolsOf } from './tokenizers/symbols.js';

export type { Tokenizer } from './tokenizers/base.js';

/** For `--verbose`: the tokenizer, then one line a token: `stop: 0, 70 (generation_config.json: eos_token_id)`. */
export function describeOrigins({ name, origins }: Tokenizer): string[] {
  const lines = origins.map(({ what, ids, from }) => `${what}: ${ids.join(', ')} (${from})`);
  return [`tokenizer: ${name}`, ...lines];
}

/** The tokenizers that are named rather than read from a file. */
export const TOKENIZER_NAMES = ['bytes', 'cl100k_base'] as const;

/** Whether a tokenizer is named so, or `symbols-N`; every other text is the path of one. */
export const isTokenizerName = (text: string): boolean =>
  TOKENIZER_NAMES.some((name) => name === text) || symbolsOf(text) !== null;

/**
 * @param spec `bytes`, `cl100k_base`, `symbols-N` for N numbered symbols, a `tokenizer.json` file or a directory that holds one,
 *   or `hf:owner/name`, which is fetched
 * @throws UsageError for another name, RunError for a file that cannot be read
 */
export async function loadTokenizer(spec: string): Promise<Tokenizer> {
  if (spec === 'bytes') return new (await import('./tokenizers/bytes.js')).BytesTokenizer();
  if (spec === 'cl100k_base') return (await import('./tokenizers/cl100k.js')).Cl100kTokenizer.load();
  const symbols = symbolsOf(spec);
  if (symbols !== null) return new SymbolsTokenizer(symbols);
  const { HuggingFaceTokenizer, findTokenizerFile } = await import('./tokenizers/hugging-face.js');
  const place = isReference(spec)
    ? await (await import('./hub/tokenizer-files.js')).fetchTokenizer(spec)
    : spec;
  const file = findTokenizerFile(place);
  if (file === null) {
    const known = TOKENIZER_NAMES.join(', ');
    throw new UsageError(
      `unknown tokenizer '${spec}': use ${known}, symbols-N (N numbered symbols, a multiple of 8), the path of a tokenizer.json or of a directory with one, or hf:owner/name`,
    );
  }
  return HuggingFaceTokenizer.load(file);
}

/**
 * What determines the ids of a tokenizer. Paths differ from machine to machine: one that is a file is known by its content,
 * and by that of `tokenizer_config.json` beside it, which may change it.
 */
export function tokenizerIdentity({ name }: Tokenizer): string {
  if (isTokenizerName(name) || !existsSync(name)) return name;
  const hash = createHash('sha256').update(readFileSync(name));
  const config = join(dirname(name), 'tokenizer_config.json');
  if (existsSync(config)) hash.update(readFileSync(config));
  return hash.digest('hex');
}

/** What the record of a run calls the tokenizer of `name` among its inputs. */
export const tokenizerInput = (name: string): string => `tokenizer: ${name}`;

/** The input that a tokenizer is, by its hash; nothing for those that are named. */
export const tokenizerInputs = (tokenizer: Tokenizer): Record<string, string> =>
  isTokenizerName(tokenizer.name) ? {} : { [tokenizerInput(tokenizer.name)]: tokenizerIdentity(tokenizer) };

/** Rows of a model's vocabulary without a token; DeepSeek has 2,385. */
const LARGEST_PADDING = 8192;

/**
 * Checks that a model's vocabulary may be this tokenizer's: the same size, or that size padded by the model.
 * @throws UsageError that names both sizes
 */
export function checkVocabulary(tokenizer: Tokenizer, modelVocabSize: number): void {
  const { name, vocabSize } = tokenizer;
  const padding = modelVocabSize - vocabSize;
  // Padding is a small part of a vocabulary: a small tokenizer with a large model is not the model's own.
  if (padding >= 0 && padding <= Math.min(LARGEST_PADDING, Math.max(vocabSize, 256))) return;
  throw new UsageError(
    `tokenizer '${name}' has ${vocabSize} tokens but the model's vocabulary has ${modelVocabSize}: ` +
      `use the tokenizer the model was trained with`,
  );
}
