/**
 * Encodes a text of any length in bounded memory, with the ids that encoding it whole gives.
 *
 * The text is encoded in windows that overlap. Two windows are joined where both have the same tokens throughout the inner
 * half of what they share, at a place no token of the vocabulary can reach over: between two words of the
 * pre-tokenizer, which are encoded independently, or between two characters that are neighbours in no token, so
 * that no merge of byte-pair encoding joins them. Where windows do not agree they become one.
 */
import { RunError } from '../../errors.js';
import { codePoints, wholeCharacters } from './characters.js';
import {
  type Edges,
  type EncodedPart,
  findJoint,
  Window,
  type WindowEncoder,
  type WindowSettings,
  type WindowSizes,
} from './window.js';

export const WINDOW_SIZES: WindowSizes = { window: 1 << 18, overlap: 1 << 13, largest: 1 << 25 };

/** The text of a window, and what is the same as in the window before it. */
interface Cut {
  readonly shared: string;
  readonly added: string;
  readonly edges: Edges;
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
function* plan(documents: Iterable<Iterable<string>>, settings: WindowSettings): Generator<Planned> {
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
  settings: WindowSettings,
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
