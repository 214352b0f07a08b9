import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { RunError } from '../../errors.js';
import { BaseTokenizer } from './base.js';
import { amendDescription, resolveConventions, type Origin, type TokenConventions } from './conventions.js';
import { codePoints } from './characters.js';
import { readFields } from './json.js';
import { LibraryTokenizer, PROCESSES } from './library/library.js';
import { concatenate, divideBySizes, wholeParts } from './parts.js';
import type { EncodedPart, WindowEncoder, WindowPlace, WindowSizes } from './window.js';
import { encodeWindows, WINDOW_SIZES } from './windows.js';
import { Vocabulary } from './vocabulary.js';

/** The `tokenizer.json` that `path` is or holds; null when there is none. */
export function findTokenizerFile(path: string): string | null {
  if (!existsSync(path)) return null;
  if (!statSync(path).isDirectory()) return path;
  const inside = join(path, 'tokenizer.json');
  return existsSync(inside) ? inside : null;
}

/** A Hugging Face `tokenizer.json`, with the conventions of the files beside it. Hugging Face's own library does the work. */
export class HuggingFaceTokenizer extends BaseTokenizer {
  /** Ids that have no text. */
  private readonly hidden: ReadonlySet<number>;

  private constructor(
    readonly name: string,
    private readonly library: LibraryTokenizer,
    private readonly vocabulary: Vocabulary,
    private readonly conventions: TokenConventions,
    private readonly sizes: WindowSizes,
  ) {
    super();
    // The library itself keeps special tokens that it looks for in normalized text.
    const special = vocabulary.added.filter((token) => token.special).map(({ id }) => id);
    const { beginOfText, endOfText, padding } = conventions;
    this.hidden = new Set([...special, beginOfText, endOfText, padding].filter((id) => id !== null));
  }

  /**
   * @param sizes for tests: of the windows in which long texts are encoded
   * @throws RunError when the file is no tokenizer, or one that is not supported
   */
  static load(file: string, sizes = WINDOW_SIZES): HuggingFaceTokenizer {
    const description = amendDescription(file, readFields(file));
    const vocabulary = Vocabulary.of(file, description);
    // Begin tokens are put before a text by whoever builds a prompt; texts are never cut or padded.
    const json = JSON.stringify({ ...description, post_processor: null, truncation: null, padding: null });
    const library = new LibraryTokenizer(file, json, vocabulary.added);
    const conventions = resolveConventions(file, description, (token) => vocabulary.idOf(token));
    for (const { what, ids, from } of conventions.origins) {
      const outside = ids.find((id) => id >= vocabulary.size);
      // A model may stop at ids its tokenizer does not have; nothing else may use them.
      if (outside === undefined || what === 'stop') continue;
      throw new RunError(
        `${file}: id ${outside} (${what}, from ${from}) is outside its ${vocabulary.size} tokens`,
      );
    }
    return new HuggingFaceTokenizer(file, library, vocabulary, conventions, sizes);
  }

  get vocabSize(): number {
    return this.vocabulary.size;
  }

  get beginOfText(): number | null {
    return this.conventions.beginOfText;
  }

  get endOfText(): number | null {
    return this.conventions.endOfText;
  }

  get padding(): number | null {
    return this.conventions.padding;
  }

  override get stopTokens(): readonly number[] {
    return this.conventions.stopTokens;
  }

  override get origins(): readonly Origin[] {
    return this.conventions.origins;
  }

  encode(text: string): Int32Array {
    if (text.length > this.sizes.window) return concatenate([...this.encodePieces([text])]);
    return this.library.encode([text])[0] ?? new Int32Array(0);
  }

  override encodeAll(texts: readonly string[]): Int32Array[] {
    const { window } = this.sizes;
    const found: Int32Array[] = [];
    for (let from = 0; from < texts.length;) {
      // What one request may have is what one text may.
      let [to, size] = [from, 0];
      while (to < texts.length && size + (texts[to]?.length ?? 0) <= window) size += texts[to++]?.length ?? 0;
      if (to === from) found.push(this.encode(texts[to++] ?? ''));
      else found.push(...this.library.encode(texts.slice(from, to)));
      from = to;
    }
    return found;
  }

  *encodePieces(pieces: Iterable<string>): Generator<Int32Array> {
    for (const ids of this.encodeDocuments([pieces])) if (ids !== null) yield ids;
  }

  override *encodeDocuments(documents: Iterable<Iterable<string>>): Generator<Int32Array | null> {
    for (const part of encodeWindows(documents, this.encoder(), { sizes: this.sizes })) {
      if (part === null) yield null;
      else if (part.ids.length > 0) yield part.ids;
    }
  }

  encodeParts(parts: readonly string[]): Int32Array[] {
    const texts = wholeParts(parts);
    const encoded = encodeWindows([texts], this.encoder(), { withEnds: true, sizes: this.sizes });
    return divideBySizes(texts.map(codePoints), withoutEnds(encoded));
  }

  decode(ids: Iterable<number>): string {
    const list = Int32Array.from(ids).filter((id) => !this.hidden.has(id));
    return list.length === 0 ? '' : this.library.decode(list);
  }

  private encoder(): WindowEncoder {
    const { library, vocabulary, sizes } = this;
    return {
      ahead: 2 * PROCESSES,
      spans: (text, head, tail, place) => library.spans(text, head, tail, slotOf(place, sizes)),
      canCut: (before, after) => vocabulary.canCut(before, after),
    };
  }
}

/** Windows' worth of characters for which another process is worth its start. */
const WINDOWS_PER_PROCESS = 4;

/** Windows go to the processes in turn; there are more of these the more there is to encode. */
function slotOf({ window, characters }: WindowPlace, sizes: WindowSizes): number {
  const worth = 1 + Math.floor(characters / (WINDOWS_PER_PROCESS * sizes.window));
  return window % Math.min(PROCESSES, worth);
}

function* withoutEnds(parts: Iterable<EncodedPart | null>): Generator<EncodedPart> {
  for (const part of parts) if (part !== null) yield part;
}
