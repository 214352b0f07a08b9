/**
 * Encodes a text of any length in bounded memory, with the ids that encoding it whole gives.
 *
 * The text is encoded in windows that overlap. Two windows are joined where both have the same tokens throughout the inner
 * half of what they share, at a place no token of the vocabulary can reach over: between two words of the
 * pre-tokenizer, which are encoded independently, or between two characters that are neighbours in no token, so
 * that no merge of byte-pair encoding joins them. Where windows do not agree they become one.
 */
import { RunError } from '../../errors.js';
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

export const WINDOW_SIZES: WindowSizes = { window: 1 << 18, overlap: 1 << 13, largest: 1 << 25 };

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

interface Settings {
  readonly encoder: WindowEncoder;
  readonly sizes: WindowSizes;
  readonly withEnds: boolean;
}

/** The text of a window, and what is the same as in the window before it. */
interface Cut {
  readonly shared: string;
  readonly added: string;
  readonly edges: Edges;
}

/** Whether a window is the first or the last of its document: there no other one is joined to it. */
interface Edges {
  readonly isFirst: boolean;
  readonly isLast: boolean;
}

/** A window, or the end of a document. */
type Planned = { readonly cut: Cut; readonly window: Window } | null;

/**
 * @param documents texts, each in pieces of any size
 * @param options `withEnds`: also tell where tokens end
 * @returns parts of each text, and null after it
 * @throws RunError where no place to cut is found in a window of the largest size
 */
export function* encodeWindows(
  documents: Iterable<Iterable<string>>,
  encoder: WindowEncoder,
  { withEnds = false, sizes = WINDOW_SIZES }: { withEnds?: boolean; sizes?: WindowSizes } = {},
): Generator<EncodedPart | null> {
  const settings = { encoder, sizes, withEnds };
  let current: Window | null = null;
  // Tokens of the current window before this one were handed out with the window before.
  let first = 0;
  for (const planned of lookAhead(plan(documents, settings), encoder.ahead)) {
    if (planned === null) {
      if (current !== null) yield current.part(first, current.ids.length);
      yield null;
      [current, first] = [null, 0];
      continue;
    }
    const { cut, window: next } = planned;
    if (current === null) {
      current = next;
      continue;
    }
    const joint = findJoint(current, next, encoder);
    if (joint === null) {
      const place = first === 0 ? null : current.start(first);
      current = enlarge(current, cut, settings);
      first = place === null ? 0 : current.tokenAt(place);
    } else {
      yield current.part(first, joint.before);
      current = next;
      first = joint.after;
    }
  }
}

/** Cuts documents into windows and begins to encode them. */
function* plan(documents: Iterable<Iterable<string>>, settings: Settings): Generator<Planned> {
  let window = 0;
  let characters = 0;
  for (const pieces of documents) {
    let from = 0;
    for (const cut of cuts(pieces, settings.sizes)) {
      const text = cut.shared + cut.added;
      from -= codePoints(cut.shared);
      const made = new Window(text, from, cut.edges, settings, { window, characters });
      from = made.end;
      window += 1;
      characters += text.length;
      yield { cut, window: made };
    }
    yield null;
  }
}

function* cuts(pieces: Iterable<string>, sizes: WindowSizes): Generator<Cut> {
  const reader = new PieceReader(pieces);
  let text = reader.take(sizes.window);
  yield { shared: '', added: text, edges: { isFirst: true, isLast: reader.isEmpty } };
  while (!reader.isEmpty) {
    const added = reader.take(sizes.window - sizes.overlap);
    const shared = text.slice(wholeCharacters(text, text.length - sizes.overlap));
    yield { shared, added, edges: { isFirst: false, isLast: reader.isEmpty } };
    text = shared + added;
  }
}

/** Takes `count` items before they are asked for; those that nobody asks for in the end are dropped. */
function* lookAhead(items: Iterator<Planned>, count: number): Generator<Planned> {
  const waiting: Planned[] = [];
  let done = false;
  try {
    for (;;) {
      while (!done && waiting.length <= count) {
        const next = items.next();
        if (next.done === true) done = true;
        else waiting.push(next.value);
      }
      if (waiting.length === 0) return;
      yield waiting.shift() as Planned;
    }
  } finally {
    for (const item of waiting) item?.window.drop();
  }
}

function enlarge(
  { text, from, edges, place }: Window,
  { added, edges: { isLast } }: Cut,
  settings: Settings,
): Window {
  const { largest } = settings.sizes;
  if (text.length + added.length > largest) {
    throw new RunError(
      `a text of ${largest} characters has no place where this tokenizer lets it be cut: divide the document`,
    );
  }
  return new Window(text + added, from, { ...edges, isLast }, settings, place);
}

/** Hands out a text that comes in pieces in stretches of a given size that divide no surrogate pair. */
class PieceReader {
  private pending = '';
  private readonly iterator: Iterator<string>;

  constructor(pieces: Iterable<string>) {
    this.iterator = pieces[Symbol.iterator]();
  }

  /** Whether all of the text was taken. */
  get isEmpty(): boolean {
    return this.pending === '';
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
  /** The code point of the text at which the window ends. */
  readonly end: number;
  private readonly encoding: Later<SpannedIds>;
  private encoded: SpannedIds | null = null;

  constructor(
    readonly text: string,
    /** The code point of the text at which the window begins. */
    readonly from: number,
    readonly edges: Edges,
    { encoder, sizes: { overlap }, withEnds }: Settings,
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

  private readonly withEnds: boolean;

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
