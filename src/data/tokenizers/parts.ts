/** Ids of the parts of a text, from the ids of the whole. */

export interface EndedIds {
  readonly ids: Int32Array;
  /** Where each token ends in the text, in the unit of `sizes`. */
  readonly ends: Int32Array | null;
}

export function concatenate(arrays: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(arrays.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const array of arrays) {
    all.set(array, at);
    at += array.length;
  }
  return all;
}

/**
 * Gives each part the tokens that end in it, so that a token that reaches over a boundary belongs to the later part.
 * @param sizes of the parts, in order
 */
export function divideBySizes(sizes: readonly number[], encoded: Iterable<EndedIds>): Int32Array[] {
  const parts: number[][] = sizes.map(() => []);
  let part = 0;
  let boundary = sizes[0] ?? 0;
  for (const { ids, ends } of encoded) {
    for (const [index, id] of ids.entries()) {
      while ((ends?.[index] ?? 0) > boundary && part + 1 < sizes.length) {
        part += 1;
        boundary += sizes[part] ?? 0;
      }
      parts[part]?.push(id);
    }
  }
  return parts.map((ids) => Int32Array.from(ids));
}

const endsInPair = (text: string): boolean => /[\uD800-\uDBFF]$/.test(text);

/** The same text in pieces that divide no surrogate pair. */
export function* wholeTexts(pieces: Iterable<string>): Generator<string> {
  let rest = '';
  for (const piece of pieces) {
    const text = rest + piece;
    rest = endsInPair(text) ? text.slice(-1) : '';
    if (text.length > rest.length) yield text.slice(0, text.length - rest.length);
  }
  if (rest !== '') yield rest;
}

/** The same parts, where a character divided between two of them belongs to the later one. */
export function wholeParts(parts: readonly string[]): string[] {
  const texts = [...parts];
  for (let index = 0; index + 1 < texts.length; index++) {
    const text = texts[index] as string;
    if (!endsInPair(text)) continue;
    texts[index] = text.slice(0, -1);
    texts[index + 1] = text.slice(-1) + (texts[index + 1] as string);
  }
  return texts;
}
