/** Irrelevant text, as tokens, with the places where a sentence begins. */
import { createHash } from 'node:crypto';
import { RunError } from '../../errors.js';
import type { Corpus, Split } from '../corpus.js';
import type { Tokenizer } from '../tokenizer.js';

/** More text than this adds no variety worth its time. */
const CHARACTERS = 1 << 24;
/** Text without sentences is cut between words after this many characters. */
const LONGEST_SENTENCE = 600;

export class Haystack {
  private constructor(
    readonly name: string,
    readonly sha256: string,
    private readonly ids: Int32Array,
    /** Positions in `ids` where sentences begin, ascending from 0. */
    private readonly starts: Int32Array,
  ) {}

  /** @throws RunError for a corpus without words */
  static fromCorpus(corpus: Corpus, tokenizer: Tokenizer, split: Split = 'all'): Haystack {
    const blocks: Int32Array[] = [];
    const starts: number[] = [];
    let length = 0;
    let characters = 0;
    for (const sentence of sentences(corpus, split)) {
      // A leading space, as in running text, keeps the words of BPE vocabularies whole.
      const ids = tokenizer.encode(` ${sentence}`);
      starts.push(length);
      blocks.push(ids);
      length += ids.length;
      characters += sentence.length;
      if (characters > CHARACTERS) break;
    }
    if (length === 0) throw new RunError(`the haystack ${corpus.name} holds no words`);
    const all = new Int32Array(length);
    for (const [index, block] of blocks.entries()) all.set(block, starts[index]);
    return new Haystack(corpus.name, corpus.sha256, all, Int32Array.from(starts));
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

/** Sentences with all white space between words made one space. */
function* sentences(corpus: Corpus, split: Split): Generator<string> {
  let pending = '';
  for (const { text, endsDocument } of corpus.pieces(split)) {
    pending = (pending + text).replace(/\s+/g, ' ');
    const found = pending.match(/.*?[.!?]+["'’”)\]]*(?: |$)|.+$/g) ?? [];
    // The last one may go on in the next piece.
    pending = endsDocument ? '' : (found.pop() ?? '');
    for (const sentence of found) yield* wordsWithin(sentence.trim());
  }
  if (pending.trim() !== '') yield* wordsWithin(pending.trim());
}

function* wordsWithin(sentence: string): Generator<string> {
  let rest = sentence;
  while (rest.length > LONGEST_SENTENCE) {
    const space = rest.lastIndexOf(' ', LONGEST_SENTENCE);
    const end = space > 0 ? space : LONGEST_SENTENCE;
    yield rest.slice(0, end);
    rest = rest.slice(end).trimStart();
  }
  if (rest !== '') yield rest;
}

/** A short name for what a haystack is made of: its tokens depend on text and tokenizer. */
export function haystackHash(haystack: Haystack, tokenizer: Tokenizer): string {
  return createHash('sha256').update(`${haystack.sha256} ${tokenizer.name}`).digest('hex');
}
