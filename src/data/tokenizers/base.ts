/** What a tokenizer is, and what those that are not read from files have in common. */
import type { Origin } from './conventions.js';

export interface Tokenizer {
  /** What `loadTokenizer` is given to get this tokenizer again: `bytes`, `cl100k_base` or a path. */
  readonly name: string;
  /** Size of the vocabulary a model of this tokenizer has, padding included; every id is below it. */
  readonly vocabSize: number;
  /** The token prompts begin with, for tokenizers whose models were trained with one. */
  readonly beginOfText: number | null;
  /** The token that ends a document. */
  readonly endOfText: number | null;
  /** The token that fills up rows of a batch; null where there is none. */
  readonly padding: number | null;
  /** Any of these ends generation. */
  readonly stopTokens: readonly number[];
  /** Which file and field each of these tokens comes from. */
  readonly origins: readonly Origin[];
  /** Ids of the text alone: no begin or end token is added. */
  encode(text: string): Int32Array;
  /** `encode` of each text; of many short ones faster than one by one. */
  encodeAll(texts: readonly string[]): Int32Array[];
  /** Ids of one text that comes in pieces: together they are what `encode` gives for the whole. Memory is bounded. */
  encodePieces(pieces: Iterable<string>): Iterable<Int32Array>;
  /**
   * Ids of texts, each in pieces as for `encodePieces`, and null after each text. Texts may be read some way ahead of their ids,
   * each to its end before the next begins.
   */
  encodeDocuments(documents: Iterable<Iterable<string>>): Iterable<Int32Array | null>;
  /**
   * Ids of the parts of one text, as they are in the whole: joined they are what `encode` gives for the joined parts. A
   * token that reaches over a boundary belongs to the later part.
   */
  encodeParts(parts: readonly string[]): Int32Array[];
  /** Text of ids; special and padding tokens are left out, invalid UTF-8 becomes U+FFFD. */
  decode(ids: Iterable<number>): string;
}

/** What tokenizers that are not read from files have in common. */
export abstract class BaseTokenizer implements Tokenizer {
  abstract readonly name: string;
  abstract readonly vocabSize: number;
  abstract readonly beginOfText: number | null;
  abstract readonly endOfText: number | null;
  abstract readonly padding: number | null;

  get stopTokens(): readonly number[] {
    return this.endOfText === null ? [] : [this.endOfText];
  }

  get origins(): readonly Origin[] {
    const { beginOfText, endOfText, padding, stopTokens } = this;
    const from = `the tokenizer ${this.name}`;
    const known: readonly Origin[] = [
      { what: 'begin of text', ids: beginOfText === null ? [] : [beginOfText], from },
      { what: 'end of text', ids: endOfText === null ? [] : [endOfText], from },
      { what: 'padding', ids: padding === null ? [] : [padding], from },
      { what: 'stop', ids: stopTokens, from },
    ];
    return known.filter(({ ids }) => ids.length > 0);
  }

  abstract encode(text: string): Int32Array;

  encodeAll(texts: readonly string[]): Int32Array[] {
    return texts.map((text) => this.encode(text));
  }

  abstract encodePieces(pieces: Iterable<string>): Iterable<Int32Array>;

  *encodeDocuments(documents: Iterable<Iterable<string>>): Iterable<Int32Array | null> {
    for (const pieces of documents) {
      yield* this.encodePieces(pieces);
      yield null;
    }
  }

  abstract encodeParts(parts: readonly string[]): Int32Array[];
  abstract decode(ids: Iterable<number>): string;
}

/** The official code pads vocabularies to a multiple of 8 (YOCO/yoco/tasks/data/tiktoken_tokenizer.py). */
export const VOCABULARY_MULTIPLE = 8;

export const padVocabulary = (size: number): number =>
  Math.ceil(size / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE;
