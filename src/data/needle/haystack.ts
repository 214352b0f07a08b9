/** Irrelevant text, as tokens, with the places where a sentence begins. */
import { RunError } from '../../errors.js';
import type { Corpus, Split } from '../corpus.js';
import type { Tokenizer } from '../tokenizer.js';
import { sentences } from './sentences.js';

/** More text than this adds no variety worth its time. */
const CHARACTERS = 1 << 24;

/**
 * Ids of parts of a text in whose middle they stand: no tokenizer puts a space before them, as some do at the beginning.
 * Joined they are what the tokenizer gives for the joined parts.
 */
export const encodeRunningText = (tokenizer: Tokenizer, parts: readonly string[]): Int32Array[] =>
  tokenizer.encodeParts(['.', ...parts]).slice(1);

export class Haystack {
  private constructor(
    readonly name: string,
    private readonly ids: Int32Array,
    /** Positions in `ids` where sentences begin, ascending from 0. */
    private readonly starts: Int32Array,
  ) {}

  /** @throws RunError for a corpus without words */
  static fromCorpus(corpus: Corpus, tokenizer: Tokenizer, split: Split = 'all'): Haystack {
    const parts: string[] = [];
    let characters = 0;
    for (const { text, spaced } of sentences(corpus.pieces(split))) {
      parts.push(spaced ? ` ${text}` : text);
      characters += text.length;
      if (characters > CHARACTERS) break;
    }
    const starts: number[] = [];
    const blocks: Int32Array[] = [];
    let length = 0;
    for (const ids of encodeRunningText(tokenizer, parts)) {
      if (ids.length === 0) continue;
      starts.push(length);
      blocks.push(ids);
      length += ids.length;
    }
    if (length === 0) throw new RunError(`the haystack ${corpus.name} holds no words`);
    const all = new Int32Array(length);
    for (const [index, block] of blocks.entries()) all.set(block, starts[index]);
    return new Haystack(corpus.name, all, Int32Array.from(starts));
  }

  get length(): number {
    return this.ids.length;
  }

  get sentences(): number {
    return this.starts.length;
  }

  sentenceStart(index: number): number {
    return this.starts[index] as number;
  }

  /** Copies tokens from `position` on, any integer: the text repeats without end in both directions. */
  copy(position: number, target: Int32Array): void {
    let from = this.wrap(position);
    for (let done = 0; done < target.length;) {
      const part = this.ids.subarray(from, from + target.length - done);
      target.set(part, done);
      done += part.length;
      from = 0;
    }
  }

  /** The last beginning of a sentence at or before `position`, any integer. */
  boundaryBefore(position: number): number {
    const within = this.wrap(position);
    let low = 0;
    let high = this.starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.sentenceStart(middle) <= within) low = middle;
      else high = middle - 1;
    }
    return position - within + this.sentenceStart(low);
  }

  private wrap(position: number): number {
    const remainder = position % this.length;
    return remainder < 0 ? remainder + this.length : remainder;
  }
}
