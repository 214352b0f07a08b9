/** Text to train on and to measure with: documents in a fixed order, and which part of them is held out. */
import { createHash } from 'node:crypto';
import { RunError } from '../errors.js';
import { readJsonLines, readText } from './files.js';
import { unpackSources } from './unpack.js';
import type { Source } from './sources.js';

/** A part of a document; documents longer than a megabyte come in several. */
export interface TextPiece {
  readonly text: string;
  readonly endsDocument: boolean;
}

export type Split = 'all' | 'train' | 'held-out';

/** With this many documents every `HELD_OUT_EVERY`th is held out whole; with fewer, the end of each. */
const DOCUMENTS_TO_SPLIT = 20;
const HELD_OUT_EVERY = 20;
const CHAPTER_BREAK = '\n\n';

/**
 * @param spec `sotu`, `moby-dick`, or files, globs and directories of .txt (a document each), .jsonl (a document a
 *   line, in the field `text`), both also as .gz, .xz and .zst, and .parquet (a document a row, in the column `text`)
 * @throws UsageError or RunError for anything that is missing, empty, binary or malformed; all is read once to find out
 */
export async function loadCorpus(spec: string | readonly string[]): Promise<Corpus> {
  const { findSources } = await import('./sources.js');
  const specs = typeof spec === 'string' ? [spec] : spec;
  return new Corpus(specs.join(' '), await unpackSources(await findSources(specs)));
}

export class Corpus {
  readonly sha256: string;
  /** Size of the files in bytes. */
  readonly bytes: number;
  readonly documents: number;
  /** UTF-16 lengths of the first documents: all of them when there are too few to hold out whole ones. */
  private readonly lengths: number[] = [];

  constructor(
    readonly name: string,
    private readonly sources: readonly Source[],
  ) {
    const hash = createHash('sha256');
    let bytes = 0;
    let documents = 0;
    let length = 0;
    const onBytes = (piece: Uint8Array): void => {
      hash.update(piece);
      bytes += piece.length;
    };
    for (const piece of this.read(onBytes)) {
      length += piece.text.length;
      if (!piece.endsDocument) continue;
      if (documents < DOCUMENTS_TO_SPLIT) this.lengths.push(length);
      documents += 1;
      length = 0;
    }
    if (documents === 0) throw new RunError(`${name} holds no text`);
    this.sha256 = hash.digest('hex');
    this.bytes = bytes;
    this.documents = documents;
  }

  /**
   * The text of a split. The split is a function of the text alone: of 20 and more documents the 20th, 40th, … are
   * held out; of fewer, the last twentieth of each.
   */
  *pieces(split: Split = 'all'): Generator<TextPiece> {
    if (split === 'all') yield* this.read();
    else if (this.documents >= DOCUMENTS_TO_SPLIT) yield* this.wholeDocuments(split);
    else yield* this.partsOfDocuments(split);
  }

  /** The whole text of a split, for corpora known to be small. */
  text(split: Split = 'all', separator = '\n'): string {
    let text = '';
    for (const piece of this.pieces(split)) text += piece.endsDocument ? piece.text + separator : piece.text;
    return text;
  }

  private *wholeDocuments(split: Split): Generator<TextPiece> {
    let index = 0;
    for (const piece of this.read()) {
      const heldOut = index % HELD_OUT_EVERY === HELD_OUT_EVERY - 1;
      if (heldOut === (split === 'held-out')) yield piece;
      if (piece.endsDocument) index += 1;
    }
  }

  private *partsOfDocuments(split: Split): Generator<TextPiece> {
    let index = 0;
    let position = 0;
    for (const { text, endsDocument } of this.read()) {
      const length = this.lengths[index] ?? 0;
      const cut = Math.min(
        Math.max(Math.floor(length * (1 - 1 / HELD_OUT_EVERY)) - position, 0),
        text.length,
      );
      // A cut inside a surrogate pair would make two invalid characters.
      const safe = cut > 0 && /[\uD800-\uDBFF]/.test(text.charAt(cut - 1)) ? cut - 1 : cut;
      const part = split === 'train' ? text.slice(0, safe) : text.slice(safe);
      if (part !== '' || endsDocument) yield { text: part, endsDocument };
      position += text.length;
      if (!endsDocument) continue;
      index += 1;
      position = 0;
    }
  }

  private *read(onBytes?: (bytes: Uint8Array) => void): Generator<TextPiece> {
    for (const source of this.sources) {
      if (source.packing !== null) throw new Error(`${source.name} was not unpacked`);
      yield* source.kind === 'jsonl' ? jsonDocuments(source, onBytes) : textDocument(source, onBytes);
    }
  }
}

function* textDocument(source: Source, onBytes?: (bytes: Uint8Array) => void): Generator<TextPiece> {
  for (const [index, file] of source.files.entries()) {
    if (index > 0) yield { text: CHAPTER_BREAK, endsDocument: false };
    for (const text of readText(file, onBytes, source.shownAs?.[index]))
      if (text !== '') yield { text, endsDocument: false };
  }
  yield { text: '', endsDocument: true };
}

function* jsonDocuments(source: Source, onBytes?: (bytes: Uint8Array) => void): Generator<TextPiece> {
  for (const [index, file] of source.files.entries()) {
    const texts = readJsonLines(
      file,
      ({ text }) => {
        if (typeof text !== 'string') throw new Error('expected an object with a text in the field "text"');
        return text;
      },
      onBytes,
      source.shownAs?.[index],
    );
    for (const text of texts) if (text !== '') yield { text, endsDocument: true };
  }
}
