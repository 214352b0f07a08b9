/**
 * Prompts for the needle-in-a-haystack test: an instruction, filler text in which one or several lines are hidden, and
 * a question about one of them. A prompt is a list of parts and is read in chunks, so that its length costs no memory.
 */
import { UsageError } from '../../errors.js';
import { encodeRunningText, type Haystack } from './haystack.js';
import {
  CITIES,
  distractorLines,
  drawNumber,
  INSTRUCTION,
  questionLine,
  variantLine,
  type NeedleVariant,
} from './templates.js';
import { Random } from '../../random.js';
import type { Tokenizer } from '../tokenizer.js';

/** What a prompt is to be. */
export interface NeedleSpec {
  /** Tokens of the prompt, exactly. */
  readonly context: number;
  /** Where the asked needle is, as a percentage of the filler text: 0 directly after the instruction, 100 before the question. */
  readonly depth: number;
  /** Needles hidden, the asked one included. */
  readonly needles: number;
  readonly variant: NeedleVariant;
  readonly trial: number;
  readonly seed: number | string;
}

/** A line hidden in the filler text. */
export interface HiddenLine {
  readonly kind: 'asked' | 'other' | 'distractor';
  readonly city: string;
  readonly number: number;
  readonly text: string;
  /** Percent of the filler text before it, as placed. */
  readonly depth: number;
}

/** Tokens themselves, or a stretch of the haystack. */
type Part = { readonly ids: Int32Array } | { readonly from: number; readonly length: number };

const partLength = (part: Part): number => ('ids' in part ? part.ids.length : part.length);

export class NeedlePrompt {
  constructor(
    readonly task: NeedleSpec,
    /** In the order of the text. */
    readonly lines: readonly HiddenLine[],
    private readonly haystack: Haystack,
    private readonly parts: readonly Part[],
  ) {}

  get answer(): string {
    return String(this.asked?.number);
  }

  /** Percent of the filler text before the asked needle, which stands at the end of a sentence. */
  get placedDepth(): number {
    return this.asked?.depth ?? NaN;
  }

  private get asked(): HiddenLine | undefined {
    return this.lines.find(({ kind }) => kind === 'asked');
  }

  /** The prompt's tokens in chunks of `size`, the last one shorter. Each chunk is a fresh array. */
  *chunks(size: number): Generator<Int32Array> {
    let remaining = this.task.context;
    let chunk = new Int32Array(Math.min(size, remaining));
    let filled = 0;
    for (const part of this.parts) {
      for (let at = 0; at < partLength(part);) {
        const count = Math.min(partLength(part) - at, chunk.length - filled);
        this.copyPart(part, at, chunk.subarray(filled, filled + count));
        at += count;
        filled += count;
        if (filled < chunk.length) continue;
        yield chunk;
        remaining -= filled;
        chunk = new Int32Array(Math.min(size, remaining));
        filled = 0;
      }
    }
  }

  private copyPart(part: Part, at: number, target: Int32Array): void {
    if ('ids' in part) target.set(part.ids.subarray(at, at + target.length));
    else this.haystack.copy(part.from + at, target);
  }
}

/**
 * Builds the prompt of one trial. Everything random (cities, numbers, the other needles' depths, the stretch of filler
 * text) follows from seed, needles, variant, context, depth and trial.
 *
 * The filler text ends at the end of a sentence; needles stand between sentences, at the last boundary at or before
 * their depth.
 * @throws UsageError when the context is too short for instruction, needles and question
 */
export function buildNeedlePrompt(task: NeedleSpec, haystack: Haystack, tokenizer: Tokenizer): NeedlePrompt {
  checkTask(task);
  const { context, depth, needles, variant, trial, seed } = task;
  const random = new Random(seed).fork(`needle ${variant} ${context} ${depth} ${needles} ${trial}`);
  const lines = drawLines(task, random);
  // Lines end in a line end, which is the boundary of a token: each is encoded by itself, in the middle of a text.
  const encode = (text: string): Int32Array => encodeRunningText(tokenizer, [text])[0] ?? new Int32Array();
  const blocks = lines.map(({ text }) => encode(`\n${text}\n`));
  const begin = tokenizer.beginOfText === null ? [] : [tokenizer.beginOfText];
  const opening = Int32Array.from([...begin, ...tokenizer.encode(INSTRUCTION)]);
  const [asked] = lines;
  const question = encode(`\n${questionLine(asked?.city ?? '')}`);
  const fixed = [opening, question, ...blocks].reduce((sum, { length }) => sum + length, 0);
  if (fixed > context) {
    throw new UsageError(
      `a context of ${context} tokens is too short: instruction, hidden lines (${lines.length}) and question take ${fixed}`,
    );
  }
  const end = haystack.sentenceStart(random.below(haystack.sentences));
  const filler: Filler = { from: end - (context - fixed), length: context - fixed };
  const placed = lines
    .map((line, index) => ({
      line,
      ids: blocks[index] as Int32Array,
      at: placeOf(line.depth, filler, haystack),
    }))
    .sort((a, b) => a.at - b.at);
  const parts: Part[] = [{ ids: opening }];
  let from = 0;
  for (const { ids, at } of placed) {
    parts.push({ from: filler.from + from, length: at - from }, { ids });
    from = at;
  }
  parts.push({ from: filler.from + from, length: filler.length - from }, { ids: question });
  return new NeedlePrompt(
    task,
    placed.map(({ line, at }) => ({ ...line, depth: filler.length === 0 ? 0 : (100 * at) / filler.length })),
    haystack,
    parts,
  );
}

interface Filler {
  /** Position in the haystack. */
  readonly from: number;
  readonly length: number;
}

function checkTask({ depth, needles }: NeedleSpec): void {
  if (!(depth >= 0 && depth <= 100))
    throw new UsageError(`needle depth ${depth} is not between 0 and 100 percent`);
  checkNeedles(needles, String(needles));
}

function checkNeedles(needles: number, text: string): void {
  if (Number.isInteger(needles) && needles >= 1 && needles <= CITIES.length) return;
  throw new UsageError(`${text} needles cannot be hidden: use 1 to ${CITIES.length}, one for each city`);
}

/** The asked line first, then the others and the distractors at depths drawn at random. */
function drawLines({ depth, needles, variant }: NeedleSpec, random: Random): HiddenLine[] {
  const cities = random.shuffle([...CITIES]).slice(0, needles);
  const lines = cities.map((city, index): HiddenLine => {
    const number = drawNumber(variant, random);
    const text = variantLine(variant, city, number, random);
    const place = index === 0 ? depth : 100 * random.uniform();
    return { kind: index === 0 ? 'asked' : 'other', city, number, text, depth: place };
  });
  const [city = ''] = cities;
  const distractors = distractorLines(variant, city, random).map(({ text, number }): HiddenLine => ({
    kind: 'distractor',
    city,
    number,
    text,
    depth: 100 * random.uniform(),
  }));
  return [...lines, ...distractors];
}

/** Tokens of filler before a line that is to be at `depth` percent. */
function placeOf(depth: number, filler: Filler, haystack: Haystack): number {
  const target = Math.round((depth / 100) * filler.length);
  const boundary = haystack.boundaryBefore(filler.from + target) - filler.from;
  return Math.max(0, boundary);
}

/** Exact match: is the first number in the answer the expected one? */
export function isExactAnswer(answer: string, expected: string): boolean {
  return firstNumber(answer) === expected;
}

/** The first run of digits of a text; null without one. */
export function firstNumber(text: string): string | null {
  return /\d+/.exec(text)?.[0] ?? null;
}

/** @throws UsageError for anything but a whole number of needles that can be hidden */
export function parseNeedles(text: string): number {
  const needles = /^\d+$/.test(text) ? Number(text) : NaN;
  checkNeedles(needles, text);
  return needles;
}
