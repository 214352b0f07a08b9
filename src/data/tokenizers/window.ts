/** One of the overlapping windows in which `windows.ts` encodes a text, and the place where two of them may be joined. */
import { RunError } from '../../errors.js';
import { codePoints } from './characters.js';
import type { Later } from './library/library.js';
import type { SpannedIds, Spans } from './library/protocol.js';

export interface WindowSizes {
  /** UTF-16 units that are encoded at once. */
  readonly window: number;
  /** Units that two windows share. */
  readonly overlap: number;
  /** Units of the largest window, where no place to cut is found. */
  readonly largest: number;
}

/** Where a window is among all that are encoded. */
export interface WindowPlace {
  /** Counted from 0. */
  readonly window: number;
  /** Characters of the windows before it. */
  readonly characters: number;
}

export interface WindowEncoder {
  /** Windows that are encoded ahead of the one whose ids are handed out. */
  readonly ahead: number;
  /** Begins to encode; the answer is waited for when it is needed. */
  spans(text: string, head: number, tail: number, place: WindowPlace): Later<SpannedIds>;
  /** Whether nothing can reach over the boundary between two tokens of one word. */
  canCut(before: number, after: number): boolean;
}

/** Ids of a part of a text and, where they were asked for, where each token ends in the text, in code points. */
export interface EncodedPart {
  readonly ids: Int32Array;
  readonly ends: Int32Array | null;
}

export interface WindowSettings {
  readonly encoder: WindowEncoder;
  readonly sizes: WindowSizes;
  readonly withEnds: boolean;
}

/** Whether a window is the first or the last of its document: there no other one is joined to it. */
export interface Edges {
  readonly isFirst: boolean;
  readonly isLast: boolean;
}

/** Text that is encoded at once. */
export class Window {
  /** The code point of the text at which the window ends. */
  readonly end: number;
  private readonly encoding: Later<SpannedIds>;
  private encoded: SpannedIds | null = null;
  private readonly withEnds: boolean;

  constructor(
    readonly text: string,
    /** The code point of the text at which the window begins. */
    readonly from: number,
    readonly edges: Edges,
    { encoder, sizes: { overlap }, withEnds }: WindowSettings,
    readonly place: WindowPlace,
  ) {
    const length = codePoints(text);
    this.end = from + length;
    this.withEnds = withEnds;
    // Places are asked for only where another window is to be joined.
    const head = withEnds ? Infinity : edges.isFirst ? 0 : overlap;
    const tail = edges.isLast ? Infinity : length - overlap;
    this.encoding = encoder.spans(text, head, tail, place);
  }

  /** Waits for the encoding. */
  private get spanned(): SpannedIds {
    return (this.encoded ??= this.encoding.get());
  }

  get ids(): Int32Array {
    return this.spanned.ids;
  }

  private get head(): Spans {
    return this.spanned.head;
  }

  private get tail(): Spans {
    return this.spanned.tail;
  }

  /** Its ids are not needed. */
  drop(): void {
    if (this.encoded === null) this.encoding.drop();
  }

  start(token: number): number {
    return this.from + this.placeOf(token, 'starts');
  }

  tokenEnd(token: number): number {
    return this.from + this.placeOf(token, 'ends');
  }

  word(token: number): number {
    return this.placeOf(token, 'words');
  }

  private placeOf(token: number, what: keyof Spans): number {
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
export function findJoint(
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
