import { UsageError } from '../../errors.js';
import { PairHeap } from './pair-heap.js';

/** The token that ends a document in tokenizers trained here; it has id 0. */
export const END_OF_TEXT_TOKEN = '<|endoftext|>';
export const SMALLEST_VOCABULARY = 512;
const LARGEST_VOCABULARY = 32768;

/** How byte-level BPE cuts text into words (GPT-2; the `ByteLevel` pre-tokenizer of `tokenizer.json`). */
const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** Pairs rarer than this are not worth a token. */
const SMALLEST_COUNT = 2;
const FIRST_BYTE = 1;
/** A pair of ids as one number; ids stay below this. */
const RADIX = 65536;

interface Word {
  ids: number[];
  readonly count: number;
}

/**
 * The character that stands for each byte in a byte-level vocabulary: printable Latin-1 for itself, the others from
 * U+0100 on, in order (GPT-2's `bytes_to_unicode`).
 */
export function byteCharacters(): string[] {
  const printable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}

/** Trains byte-level byte-pair encoding: `add` the corpus, then `train`. Sennrich et al. 2016, arXiv 1508.07909. */
export class BpeTrainer {
  private readonly wordCounts = new Map<string, number>();

  add(text: string): void {
    for (const [word] of text.matchAll(WORDS)) {
      this.wordCounts.set(word, (this.wordCounts.get(word) ?? 0) + 1);
    }
  }

  /**
   * @param vocabSize tokens in all: the end-of-text token, 256 bytes, and merges
   * @param onMerge called with the number of tokens so far, now and then
   * @returns the content of a `tokenizer.json`
   * @throws UsageError for a size out of range, or a corpus too small for it
   */
  train(vocabSize: number, onMerge?: (tokens: number) => void): object {
    checkVocabularySize(vocabSize);
    const merges = new MergeTable([...this.wordCounts]);
    const characters = byteCharacters();
    const tokens = [END_OF_TEXT_TOKEN, ...characters];
    const rules: [string, string][] = [];
    while (tokens.length < vocabSize) {
      const pair = merges.mergeNext(tokens.length);
      if (pair === null) {
        throw new UsageError(
          `the corpus has too few repeated words for a vocabulary of ${vocabSize}: it gives ${tokens.length} tokens; ` +
            'use a smaller size or more text',
        );
      }
      const [left, right] = pair.map((id) => tokens[id] as string) as [string, string];
      rules.push([left, right]);
      tokens.push(left + right);
      if (rules.length % 256 === 0) onMerge?.(tokens.length);
    }
    return describe(tokens, rules);
  }
}

export function checkVocabularySize(size: number): void {
  if (Number.isInteger(size) && size >= SMALLEST_VOCABULARY && size <= LARGEST_VOCABULARY) return;
  throw new UsageError(
    `vocabulary size ${size} is out of range: use a whole number from ${SMALLEST_VOCABULARY} to ${LARGEST_VOCABULARY}`,
  );
}

/** The words of a corpus as token ids, and how often each pair of neighbours occurs in them. */
class MergeTable {
  private readonly words: Word[];
  private readonly counts = new Map<number, number>();
  /** Words in which a pair occurs or once occurred. */
  private readonly places = new Map<number, Set<number>>();
  private readonly heap = new PairHeap();

  constructor(wordCounts: readonly [string, number][]) {
    this.words = wordCounts.map(([text, count]) => ({
      ids: Array.from(Buffer.from(text, 'utf8'), (byte) => FIRST_BYTE + byte),
      count,
    }));
    for (const [index, { ids, count }] of this.words.entries()) {
      for (let i = 0; i + 1 < ids.length; i++) this.change(pairKey(ids, i), count, index);
    }
    for (const [key, count] of this.counts) this.heap.push(key, count);
  }

  /** Replaces the most frequent pair by `id` everywhere; null when no pair is frequent enough. */
  mergeNext(id: number): [number, number] | null {
    for (let top = this.heap.pop(); top !== undefined; top = this.heap.pop()) {
      const { key, count } = top;
      const current = this.counts.get(key) ?? 0;
      if (count !== current) {
        // An entry from before the count fell; counts that rose were pushed again when they did.
        if (current >= SMALLEST_COUNT && current < count) this.heap.push(key, current);
        continue;
      }
      if (count < SMALLEST_COUNT) return null;
      const pair: [number, number] = [Math.floor(key / RADIX), key % RADIX];
      this.merge(pair, id);
      return pair;
    }
    return null;
  }

  private merge([left, right]: [number, number], id: number): void {
    const key = left * RADIX + right;
    const risen = new Set<number>();
    for (const index of this.places.get(key) ?? []) this.mergeWord(index, left, right, id, risen);
    this.counts.delete(key);
    this.places.delete(key);
    for (const pair of risen) this.heap.push(pair, this.counts.get(pair) ?? 0);
  }

  private mergeWord(index: number, left: number, right: number, id: number, risen: Set<number>): void {
    const word = this.words[index] as Word;
    const before = word.ids;
    const after: number[] = [];
    for (let i = 0; i < before.length; i++) {
      const here = before[i] as number;
      const merges = here === left && before[i + 1] === right;
      after.push(merges ? id : here);
      if (merges) i += 1;
    }
    if (after.length === before.length) return;
    for (let i = 0; i + 1 < before.length; i++) this.change(pairKey(before, i), -word.count, index);
    for (let i = 0; i + 1 < after.length; i++) {
      const pair = pairKey(after, i);
      this.change(pair, word.count, index);
      if (after[i] === id || after[i + 1] === id) risen.add(pair);
    }
    word.ids = after;
  }

  private change(key: number, by: number, word: number): void {
    this.counts.set(key, (this.counts.get(key) ?? 0) + by);
    if (by < 0) return;
    const places = this.places.get(key);
    if (places === undefined) this.places.set(key, new Set([word]));
    else places.add(word);
  }
}

function pairKey(ids: readonly number[], at: number): number {
  return (ids[at] as number) * RADIX + (ids[at + 1] as number);
}

/** A `tokenizer.json` of type byte-level BPE, as the Hugging Face libraries read it. */
function describe(tokens: readonly string[], merges: readonly [string, string][]): object {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [{ id: 0, content: END_OF_TEXT_TOKEN, ...flags }],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}
