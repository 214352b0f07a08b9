/**
 * Encodes a text of any length in bounded memory, with the ids that encoding it whole gives.
 *
 * The text is encoded in windows that overlap. Two windows are joined where both have the same tokens throughout the inner
 * half of what they share, at a place no token of the vocabulary can reach over: between two words of the
 * pre-tokenizer, which are encoded independently, or between two characters that are neighbours in no token, so
 * that no merge of byte-pair encoding joins them. Where windows do not agree they become one.
 */
import { RunError } from '../../errors.js';
import type { SpannedIds, Spans } from './library/protocol.js';

export interface WindowSizes {
  /** UTF-16 units that are encoded at once. */
  readonly window: number;
  /** Units that two windows share. */
  readonly overlap: number;
  /** Units of the largest window, where no place to cut is found. */
  readonly largest: number;
}

export const WINDOW_SIZES: WindowSizes = { window: 1 << 18, overlap: 1 << 13, largest: 1 << 25 };

export interface WindowEncoder {
  spans(text: string, head: number, tail: number): SpannedIds;
  /** Whether nothing can reach over the boundary between two tokens of one word. */
  canCut(before: number, after: number): boolean;
}

/** Ids of a part of a text and, where they were asked for, where each token ends in the text, in code points. */
export interface EncodedPart {
  readonly ids: Int32Array;
  readonly ends: Int32Array | null;
}

export const codePoints = (text: string): number => {
  let count = text.length;
  for (let at = 1; at < text.length; at++) {
    if (isLow(text.charCodeAt(at)) && isHigh(text.charCodeAt(at - 1))) count -= 1;
  }
  return count;
};

const isHigh = (unit: number): boolean => unit >= 0xd800 && unit < 0xdc00;
const isLow = (unit: number): boolean => unit >= 0xdc00 && unit < 0xe000;

/** A place at or before `at` that does not divide a surrogate pair. */
export function wholeCharacters(text: string, at: number): number {
  const divides = at > 0 && isLow(text.charCodeAt(at)) && isHigh(text.charCodeAt(at - 1));
  return divides ? at - 1 : at;
}

/**
 * @param pieces a text, in pieces of any size
 * @param withEnds also tell where tokens end
 * @throws RunError where no place to cut is found in a window of the largest size
 */
export function* encodeWindows(
  pieces: Iterable<string>,
  encoder: WindowEncoder,
  { withEnds = false, sizes = WINDOW_SIZES }: { withEnds?: boolean; sizes?: WindowSizes } = {},
): Generator<EncodedPart> {
  const reader = new PieceReader(pieces);
  let current = new Window(reader.take(sizes.window), 0, encoder, sizes, withEnds);
  // Tokens of the current window before this one were handed out with the window before.
  let first = 0;
  let added = reader.take(sizes.window - sizes.overlap);
  while (added !== '') {
    const shared = current.text.slice(wholeCharacters(current.text, current.text.length - sizes.overlap));
    const next = new Window(shared + added, current.end - codePoints(shared), encoder, sizes, withEnds);
    const joint = findJoint(current, next, encoder);
    if (joint === null) {
      const place = first === 0 ? null : current.start(first);
      current = enlarge(current, added, encoder, sizes, withEnds);
      first = place === null ? 0 : current.tokenAt(place);
    } else {
      yield current.part(first, joint.before);
      current = next;
      first = joint.after;
    }
    added = reader.take(sizes.window - sizes.overlap);
  }
  yield current.part(first, current.ids.length);
}

function enlarge(
  { text, from }: Window,
  added: string,
  encoder: WindowEncoder,
  sizes: WindowSizes,
  withEnds: boolean,
): Window {
  if (text.length + added.length > sizes.largest) {
    throw new RunError(
      `a text of ${sizes.largest} characters has no place where this tokenizer lets it be cut: divide the document`,
    );
  }
  return new Window(text + added, from, encoder, sizes, withEnds);
}

/** Hands out a text that comes in pieces in stretches of a given size that divide no surrogate pair. */
class PieceReader {
  private pending = '';
  private readonly iterator: Iterator<string>;

  constructor(pieces: Iterable<string>) {
    this.iterator = pieces[Symbol.iterator]();
  }

  take(size: number): string {
    // One unit more shows whether the cut divides a pair.
    while (this.pending.length <= size) {
      const next = this.iterator.next();
      if (next.done === true) break;
      this.pending += next.value;
    }
    const end = Math.min(size, this.pending.length);
    const whole = wholeCharacters(this.pending, end);
    const text = this.pending.slice(0, whole);
    this.pending = this.pending.slice(whole);
    return text;
  }
}

class Window {
  readonly ids: Int32Array;
  /** The code point of the text at which the window ends. */
  readonly end: number;
  private readonly head: Spans;
  private readonly tail: Spans;

  constructor(
    readonly text: string,
    /** The code point of the text at which the window begins. */
    readonly from: number,
    encoder: WindowEncoder,
    { overlap }: WindowSizes,
    private readonly withEnds: boolean,
  ) {
    const length = codePoints(text);
    this.end = from + length;
    const encoded = encoder.spans(text, withEnds ? Infinity : overlap, length - overlap);
    this.ids = encoded.ids;
    this.head = encoded.head;
    this.tail = encoded.tail;
  }

  start(token: number): number {
    return this.from + this.spanned(token, 'starts');
  }

  tokenEnd(token: number): number {
    return this.from + this.spanned(token, 'ends');
  }

  word(token: number): number {
    return this.spanned(token, 'words');
  }

  private spanned(token: number, what: keyof Spans): number {
    const value =
      this.head[what][token] ?? this.tail[what][token - (this.ids.length - this.tail.starts.length)];
    if (value === undefined) throw new Error(`the place of token ${token} was not asked for`);
    return value;
  }

  /** Tokens that lie between two places of the text, both within the head or the tail. */
  between(from: number, to: number): { first: number; last: number } {
    const isTail = from >= this.end - (this.end - this.from) / 2;
    const range = isTail
      ? { low: this.ids.length - this.tail.starts.length, high: this.ids.length }
      : { low: 0, high: this.head.starts.length };
    let first = range.low;
    while (first < range.high && this.start(first) < from) first += 1;
    let last = first;
    while (last < range.high && this.tokenEnd(last) <= to) last += 1;
    return { first, last };
  }

  /** The token that begins at a place. @throws RunError where one reaches over it */
  tokenAt(place: number): number {
    let token = 0;
    while (token < this.head.starts.length && this.start(token) < place) token += 1;
    if (token < this.ids.length && this.start(token) === place) return token;
    throw new RunError(
      'a longer text changes what this tokenizer makes of its beginning: divide the document',
    );
  }

  part(first: number, last: number): EncodedPart {
    const ids = this.ids.slice(first, last);
    if (!this.withEnds) return { ids, ends: null };
    return { ids, ends: Int32Array.from(ids, (_, index) => this.tokenEnd(first + index)) };
  }
}

/** Where two windows may be joined: the first token after the joint, in both; null where they do not agree. */
function findJoint(
  before: Window,
  after: Window,
  encoder: WindowEncoder,
): { before: number; after: number } | null {
  const margin = Math.floor((before.end - after.from) / 4);
  const [from, to] = [after.from + margin, before.end - margin];
  const one = before.between(from, to);
  const two = after.between(from, to);
  const length = one.last - one.first;
  if (length === 0 || two.last - two.first !== length) return null;
  for (let index = 0; index < length; index++) {
    const [left, right] = [one.first + index, two.first + index];
    if (before.ids[left] !== after.ids[right]) return null;
    if (before.start(left) !== after.start(right)) return null;
    if (before.tokenEnd(left) !== after.tokenEnd(right)) return null;
  }
  const isSafe = (index: number): boolean => {
    const [left, right] = [one.first + index, two.first + index];
    if (before.start(left) < before.tokenEnd(left - 1)) return false;
    if (before.word(left) !== before.word(left - 1) && after.word(right) !== after.word(right - 1))
      return true;
    return encoder.canCut(before.ids[left - 1] as number, before.ids[left] as number);
  };
  for (let index = length - 1; index > 0; index--) {
    if (isSafe(index)) return { before: one.first + index, after: two.first + index };
  }
  return null;
}
