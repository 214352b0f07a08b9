/** Sentences of a text in any script, in time linear in its length. */
import type { TextPiece } from '../corpus.js';

export interface Sentence {
  /** Without white space around it; inside, all white space is one space. */
  readonly text: string;
  /** Whether white space stands before it in the source: Chinese and Japanese have none. */
  readonly spaced: boolean;
}

/** Longer stretches without the end of a sentence are cut between words. */
const LONGEST_SENTENCE = 600;
/** Text without the end of a sentence that is held at once; more of it counts as ended. */
const LONGEST_PENDING = 1 << 20;

/** Characters that are searched for the punctuation of other scripts at once. */
const WINDOW = 4096;

const ENDS = '.!?';
const CLOSERS = `"'’”)]`;

/** Punctuation outside ASCII that ends a sentence: ideographic and fullwidth stops, danda, Arabic question marks. */
const OTHER_ENDS = /(?![.!?])\p{Sentence_Terminal}/u;

// The rules of UAX 29 are the same for all locales but Greek; a fixed one gives the same answer on every machine.
const [sentenceSegmenter, wordSegmenter, graphemeSegmenter] = (['sentence', 'word', 'grapheme'] as const).map(
  (granularity) => new Intl.Segmenter('en', { granularity }),
) as [Intl.Segmenter, Intl.Segmenter, Intl.Segmenter];

/**
 * The sentences of documents. One ends at a full stop, exclamation or question mark, with closing quotes and brackets, before
 * white space; one with punctuation of another script is divided further by the rules of Unicode (UAX 29).
 */
export function* sentences(pieces: Iterable<TextPiece>): Generator<Sentence> {
  for (const stretch of stretches(pieces)) {
    for (const sentence of OTHER_ENDS.test(stretch.text) ? segments(stretch) : [stretch]) {
      yield* cutToLength(sentence);
    }
  }
}

function* stretches(pieces: Iterable<TextPiece>): Generator<Sentence> {
  let pending = '';
  let spaced = true;
  for (const { text, endsDocument } of pieces) {
    pending = (pending + text).replace(/\s+/g, ' ');
    let start = 0;
    for (const end of endsOf(pending)) {
      yield { text: pending.slice(start, end).trim(), spaced };
      start = end;
      spaced = true;
    }
    pending = pending.slice(start);
    if (!endsDocument && pending.length <= LONGEST_PENDING) continue;
    const end = endsDocument ? pending.length : endOfWords(pending);
    yield { text: pending.slice(0, end).trim(), spaced };
    spaced = endsDocument || pending.charAt(end) === ' ';
    pending = pending.slice(end);
  }
  yield { text: pending.trim(), spaced };
}

/** Positions after the white space that follows a sentence. */
function* endsOf(text: string): Generator<number> {
  for (let at = 0; at < text.length; at++) {
    if (!ENDS.includes(text.charAt(at))) continue;
    while (at < text.length && ENDS.includes(text.charAt(at))) at += 1;
    while (at < text.length && CLOSERS.includes(text.charAt(at))) at += 1;
    if (text.charAt(at) === ' ') yield at + 1;
    // What stands here may begin the next run of marks.
    else at -= 1;
  }
}

/** In windows: the segmenter takes time in proportion to the whole text for every sentence of it. */
function* segments({ text, spaced }: Sentence): Generator<Sentence> {
  let isSpaced = spaced;
  for (let from = 0; from < text.length;) {
    const isLast = from + WINDOW >= text.length;
    const end = isLast ? text.length : boundaryBefore(text, from + WINDOW);
    const found = [...sentenceSegmenter.segment(text.slice(from, end))];
    // The last sentence of a window may continue after it.
    for (const { segment } of isLast || found.length === 1 ? found : found.slice(0, -1)) {
      yield { text: segment.trim(), spaced: isSpaced };
      isSpaced = segment.endsWith(' ');
      from += segment.length;
    }
  }
}

function* cutToLength(sentence: Sentence): Generator<Sentence> {
  let { text, spaced } = sentence;
  while (text.length > LONGEST_SENTENCE) {
    const space = text.lastIndexOf(' ', LONGEST_SENTENCE);
    const end = space > 0 ? space : boundaryBefore(text, LONGEST_SENTENCE);
    yield { text: text.slice(0, end), spaced };
    spaced = text.charAt(end) === ' ';
    text = text.slice(end).trimStart();
  }
  if (text !== '') yield { text, spaced };
}

/** Before the last space, or else between two characters. */
function endOfWords(text: string): number {
  const space = text.lastIndexOf(' ');
  return space > text.length / 2 ? space : boundaryBefore(text, text.length - 1);
}

/** The last place at or before `position` where a word begins, or else a character. */
function boundaryBefore(text: string, position: number): number {
  const from = Math.max(0, position - LONGEST_SENTENCE);
  const around = text.slice(from, position + LONGEST_SENTENCE);
  for (const segmenter of [wordSegmenter, graphemeSegmenter]) {
    const index = segmenter.segment(around).containing(position - from)?.index ?? 0;
    if (index > 0) return from + index;
  }
  // One character of hundreds of code units: at least no surrogate pair is divided.
  return /[\uDC00-\uDFFF]/.test(text.charAt(position)) ? position - 1 : position;
}
