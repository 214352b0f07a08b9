import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as huggingFace from '@huggingface/tokenizers';
import { RunError } from '../../errors.js';
import type { Tokenizer } from '../tokenizer.js';

/** What special tokens are called in Hugging Face's `tokenizer_config.json`; a token is a text or an object. */
interface LibraryConfig {
  bos_token?: string | { content: string } | null;
  eos_token?: string | { content: string } | null;
}

/** What is used of the library's tokenizer; its own declarations do not resolve under NodeNext. */
interface Library {
  get_vocab(withAddedTokens: boolean): Map<string, number>;
  encode(text: string, options?: { add_special_tokens: boolean }): { ids: number[] };
  decode(
    ids: number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean },
  ): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
}

const { Tokenizer: LibraryTokenizer } = huggingFace as unknown as {
  Tokenizer: new (tokenizer: object, config: object) => Library;
};

/** End tokens by convention, for a `tokenizer.json` that comes without `tokenizer_config.json`. */
const USUAL_END_TOKENS = ['<|endoftext|>', '<|end_of_text|>', '</s>', '<eos>'];

/** The `tokenizer.json` that `path` is or holds; null when there is none. */
export function findTokenizerFile(path: string): string | null {
  if (!existsSync(path)) return null;
  if (!statSync(path).isDirectory()) return path;
  const inside = join(path, 'tokenizer.json');
  return existsSync(inside) ? inside : null;
}

/** A Hugging Face `tokenizer.json`, read with its `tokenizer_config.json` where one lies beside it. */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly beginOfText: number | null;
  readonly endOfText: number | null;

  private constructor(
    readonly name: string,
    private readonly library: Library,
    config: LibraryConfig,
  ) {
    this.vocabSize = 1 + [...library.get_vocab(true).values()].reduce((a, b) => Math.max(a, b), -1);
    this.endOfText = this.tokenId([config.eos_token, ...USUAL_END_TOKENS]);
    // The post-processor says whether the model's prompts begin with a token; the name alone does not.
    const [first] = library.encode('').ids;
    this.beginOfText = first ?? null;
  }

  /** @throws RunError when the file is no tokenizer */
  static load(file: string): HuggingFaceTokenizer {
    const beside = join(dirname(file), 'tokenizer_config.json');
    const config = existsSync(beside) ? (readJson(beside) as LibraryConfig) : {};
    const description = readJson(file);
    try {
      return new HuggingFaceTokenizer(file, new LibraryTokenizer(description, config), config);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new RunError(`${file}: not a tokenizer this program can use (${reason})`, { cause: error });
    }
  }

  encode(text: string): Int32Array {
    return Int32Array.from(this.library.encode(text, { add_special_tokens: false }).ids);
  }

  decode(ids: Iterable<number>): string {
    const known = [...ids].filter((id) => this.library.id_to_token(id) !== undefined);
    if (known.length === 0) return '';
    return this.library.decode(known, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  }

  private tokenId(candidates: readonly (string | { content: string } | null | undefined)[]): number | null {
    for (const candidate of candidates) {
      const content = typeof candidate === 'object' ? candidate?.content : candidate;
      const id = content === undefined ? undefined : this.library.token_to_id(content);
      if (id !== undefined) return id;
    }
    return null;
  }
}

function readJson(file: string): object {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new RunError(`cannot read ${file}: ${reason}`, { cause: error });
  }
  if (typeof value !== 'object' || value === null) throw new RunError(`${file}: expected a JSON object`);
  return value;
}
