/** Text to token ids and back. `loadTokenizer` is the only way the rest of the code gets one. */
import { UsageError } from '../errors.js';

export interface Tokenizer {
  /** What `loadTokenizer` is given to get this tokenizer again: `bytes`, `cl100k_base` or a path. */
  readonly name: string;
  /** Size of the vocabulary a model of this tokenizer has, padding included; every id is below it. */
  readonly vocabSize: number;
  /** The token prompts begin with, for tokenizers whose models were trained with one. */
  readonly beginOfText: number | null;
  /** The token that ends a document. */
  readonly endOfText: number | null;
  /** Ids of the text alone: no begin or end token is added. */
  encode(text: string): Int32Array;
  /** Text of ids; special and padding tokens are left out, invalid UTF-8 becomes U+FFFD. */
  decode(ids: Iterable<number>): string;
}

/** The tokenizers that are named rather than read from a file. */
export const TOKENIZER_NAMES = ['bytes', 'cl100k_base'] as const;

/** The official code pads vocabularies to a multiple of 8 (YOCO/yoco/tasks/data/tiktoken_tokenizer.py). */
export const VOCABULARY_MULTIPLE = 8;

export const padVocabulary = (size: number): number =>
  Math.ceil(size / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE;

/** Checkpoints of others are padded to at most this multiple. */
const LARGEST_PADDING = 256;

/**
 * @param spec `bytes`, `cl100k_base`, a `tokenizer.json` file or a directory that holds one
 * @throws UsageError for another name, RunError for a file that cannot be read
 */
export async function loadTokenizer(spec: string): Promise<Tokenizer> {
  if (spec === 'bytes') return new (await import('./tokenizers/bytes.js')).BytesTokenizer();
  if (spec === 'cl100k_base') return (await import('./tokenizers/cl100k.js')).Cl100kTokenizer.load();
  const { HuggingFaceTokenizer, findTokenizerFile } = await import('./tokenizers/hugging-face.js');
  const file = findTokenizerFile(spec);
  if (file === null) {
    const known = TOKENIZER_NAMES.join(', ');
    throw new UsageError(
      `unknown tokenizer '${spec}': use ${known}, or the path of a tokenizer.json or of a directory with one`,
    );
  }
  return HuggingFaceTokenizer.load(file);
}

/**
 * Checks that a model's vocabulary is this tokenizer's: the same size, or that size padded by the model.
 * @throws UsageError that names both sizes
 */
export function checkVocabulary(tokenizer: Tokenizer, modelVocabSize: number): void {
  const { name, vocabSize } = tokenizer;
  if (modelVocabSize >= vocabSize && modelVocabSize - vocabSize < LARGEST_PADDING) return;
  throw new UsageError(
    `tokenizer '${name}' has ${vocabSize} tokens but the model's vocabulary has ${modelVocabSize}: ` +
      `use the tokenizer the model was trained with`,
  );
}
