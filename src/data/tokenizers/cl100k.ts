import type * as cl100k from 'gpt-tokenizer/encoding/cl100k_base';
import { padVocabulary, type Tokenizer } from '../tokenizer.js';

/** The official code puts these before tiktoken's ids: `<s>`, `<pad>`, `</s>`, `<unk>`. */
const BEGIN_OF_TEXT = 0;
const END_OF_TEXT = 2;
const SHIFT = 4;
const RANKS = 100256;
/** cl100k's special tokens and those the official code adds lie between the ranks and this id. */
const LAST_SPECIAL = 100281;

/**
 * tiktoken's cl100k_base with the numbering of the official YOCO code (YOCO/yoco/tasks/data/tiktoken_tokenizer.py):
 * four symbols first, so that every tiktoken id is shifted by 4, and 100,286 tokens padded to 100,288.
 */
export class Cl100kTokenizer implements Tokenizer {
  readonly name = 'cl100k_base';
  readonly vocabSize = padVocabulary(LAST_SPECIAL + 1 + SHIFT);
  readonly beginOfText = BEGIN_OF_TEXT;
  readonly endOfText = END_OF_TEXT;

  private constructor(
    private readonly encoding: typeof cl100k,
    private readonly ranks: readonly (string | number[])[],
  ) {}

  static async load(): Promise<Cl100kTokenizer> {
    const { default: ranks } = await import('gpt-tokenizer/bpeRanks/cl100k_base');
    return new Cl100kTokenizer(await import('gpt-tokenizer/encoding/cl100k_base'), ranks);
  }

  encode(text: string): Int32Array {
    const ids = this.encoding.encode(text, { disallowedSpecial: new Set() });
    return Int32Array.from(ids, (id) => id + SHIFT);
  }

  /** From the bytes of the ranks: the package's own decoder drops characters that are incomplete at the end. */
  decode(ids: Iterable<number>): string {
    const bytes: Uint8Array[] = [];
    for (const id of ids) {
      const token = id >= SHIFT && id < RANKS + SHIFT ? this.ranks[id - SHIFT] : undefined;
      if (token !== undefined)
        bytes.push(typeof token === 'string' ? Buffer.from(token) : Uint8Array.from(token));
    }
    return Buffer.concat(bytes).toString('utf8');
  }
}
