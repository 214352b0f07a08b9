import { RunError } from '../../errors.js';
import { BaseTokenizer, VOCABULARY_MULTIPLE } from './base.js';
import { concatenate } from './parts.js';

const NAME = /^symbols-(\d+)$/;
const LARGEST = 1 << 20;

/** The size in `symbols-N`; null for another name or a size that no model has. */
export function symbolsOf(name: string): number | null {
  const size = Number(NAME.exec(name)?.[1]);
  const isSize = size > 0 && size <= LARGEST && size % VOCABULARY_MULTIPLE === 0;
  return isSize ? size : null;
}

/** Numbered symbols, for tasks that are no text: a text of theirs is ids with spaces between them. */
export class SymbolsTokenizer extends BaseTokenizer {
  readonly name: string;
  readonly beginOfText = null;
  readonly endOfText = null;
  readonly padding = null;

  constructor(readonly vocabSize: number) {
    super();
    this.name = `symbols-${vocabSize}`;
  }

  /** @throws RunError for anything but ids of this vocabulary */
  encode(text: string): Int32Array {
    const words = text.split(/\s+/).filter((word) => word !== '');
    return Int32Array.from(words, (word) => {
      if (/^\d+$/.test(word) && Number(word) < this.vocabSize) return Number(word);
      throw new RunError(`'${word}' is no symbol: ${this.name} has the numbers 0 to ${this.vocabSize - 1}`);
    });
  }

  *encodePieces(pieces: Iterable<string>): Generator<Int32Array> {
    let begun = '';
    for (const piece of pieces) {
      const text = begun + piece;
      const end = text.search(/\S*$/);
      yield this.encode(text.slice(0, end));
      begun = text.slice(end);
    }
    yield this.encode(begun);
  }

  /** A number that a boundary divides belongs to the part where it ends. */
  encodeParts(parts: readonly string[]): Int32Array[] {
    const ids = [...this.encodePieces(parts)];
    const [before, last] = ids.splice(-2);
    return last === undefined || before === undefined ? [] : [...ids, concatenate([before, last])];
  }

  decode(ids: Iterable<number>): string {
    return [...ids].join(' ');
  }
}
