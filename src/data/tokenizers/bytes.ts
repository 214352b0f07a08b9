import { BaseTokenizer, padVocabulary } from './base.js';
import { wholeParts, wholeTexts } from './parts.js';

const END_OF_TEXT = 256;

/** One token per UTF-8 byte (ids 0 to 255) and id 256 for the end of a document. */
export class BytesTokenizer extends BaseTokenizer {
  readonly name = 'bytes';
  readonly vocabSize = padVocabulary(END_OF_TEXT + 1);
  readonly beginOfText = null;
  readonly endOfText = END_OF_TEXT;
  readonly padding = null;

  encode(text: string): Int32Array {
    return Int32Array.from(Buffer.from(text, 'utf8'));
  }

  *encodePieces(pieces: Iterable<string>): Generator<Int32Array> {
    for (const piece of wholeTexts(pieces)) yield this.encode(piece);
  }

  encodeParts(parts: readonly string[]): Int32Array[] {
    return wholeParts(parts).map((text) => this.encode(text));
  }

  decode(ids: Iterable<number>): string {
    const bytes: number[] = [];
    for (const id of ids) if (id < END_OF_TEXT) bytes.push(id);
    return Buffer.from(bytes).toString('utf8');
  }
}
