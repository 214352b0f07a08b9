/** Text to learn retrieval from: filler with hidden facts, then questions about some of them with their answers. */
import { drawFacts, type FactOptions } from '../data/needle/facts.js';
import type { Haystack } from '../data/needle/haystack.js';
import { INSTRUCTION } from '../data/needle/templates.js';
import type { Random } from '../random.js';
import type { Tokenizer } from '../data/tokenizer.js';

export interface NeedleText {
  /** Tokens, one more than the sequence is long. */
  readonly ids: Int32Array;
  /** Positions in `ids` of the tokens that answer the questions. */
  readonly answers: readonly number[];
}

export interface NeedleTextOptions extends FactOptions {
  /** Tokens in all. */
  readonly tokens: number;
  /** Facts to hide, before the distractors are added. */
  readonly needles: number;
}

/** Questions asked at the end: 2 to 6, as far as there are needles. */
const MIN_QUESTIONS = 2;
const MAX_QUESTIONS = 6;
/** Opening, needles and questions leave at least this share of a text to filler. */
const LEAST_FILLER = 0.25;
const LARGEST_OPENING = 0.25;

interface Question {
  readonly question: Int32Array;
  readonly answer: Int32Array;
}

/** The instruction opens half of the texts that it does not fill, so that a model works with it and without. */
function opening(tokens: number, tokenizer: Tokenizer, random: Random): Int32Array {
  const begin = tokenizer.beginOfText === null ? [] : [tokenizer.beginOfText];
  const instruction = tokenizer.encode(INSTRUCTION);
  const hasInstruction = random.uniform() < 0.5 && instruction.length <= LARGEST_OPENING * tokens;
  return Int32Array.from([...begin, ...(hasInstruction ? instruction : [])]);
}

function total(parts: readonly Int32Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

/** Keeps leading items as long as their parts fit into `budget` tokens. */
function fitting<T>(items: readonly T[], size: (item: T) => number, budget: number): T[] {
  let used = 0;
  return items.filter((item) => (used += size(item)) <= budget);
}

/** Filler with needles before sentences at random places. */
function hide(
  needles: readonly Int32Array[],
  length: number,
  haystack: Haystack,
  random: Random,
): Int32Array[] {
  const from = haystack.sentenceStart(random.below(haystack.sentences));
  const places = needles
    .map((ids) => {
      const boundary = haystack.boundaryBefore(from + random.below(length + 1)) - from;
      return { ids, at: Math.max(0, boundary) };
    })
    .sort((a, b) => a.at - b.at);
  const parts: Int32Array[] = [];
  const filler = (begin: number, end: number): void => {
    const ids = new Int32Array(end - begin);
    haystack.copy(from + begin, ids);
    parts.push(ids);
  };
  let done = 0;
  for (const { ids, at } of places) {
    filler(done, at);
    parts.push(ids);
    done = at;
  }
  filler(done, length);
  return parts;
}

/** One text of exactly `tokens` tokens. Needles and questions that do not fit are left out; at least one of each stays. */
export function needleText(
  { tokens, needles, ...wording }: NeedleTextOptions,
  haystack: Haystack,
  tokenizer: Tokenizer,
  random: Random,
): NeedleText {
  const start = opening(tokens, tokenizer, random);
  const budget = (1 - LEAST_FILLER) * tokens - start.length;
  const facts = drawFacts(needles, wording, random).map((fact) => ({
    ...fact,
    ids: tokenizer.encode(`\n${fact.line}\n`),
  }));
  const hidden = fitting(facts, ({ ids }) => ids.length, budget / 2);
  const count = MIN_QUESTIONS + random.below(MAX_QUESTIONS - MIN_QUESTIONS + 1);
  const asked = random
    .shuffle([...hidden])
    .sort((a, b) => Number(b.isConfusable) - Number(a.isConfusable))
    .slice(0, count);
  const questions = fitting(
    // What follows the number ends it: a model that continues with digits is wrong.
    asked.map(({ question, number }): Question => ({
      question: tokenizer.encode(`\n${question}`),
      answer: tokenizer.encode(`${number} .`),
    })),
    ({ question, answer }) => question.length + answer.length,
    budget - total(hidden.map(({ ids }) => ids)),
  );
  const closing = questions.flatMap(({ question, answer }) => [question, answer]);
  const fixed = start.length + total(hidden.map(({ ids }) => ids)) + total(closing);
  const body = hide(
    hidden.map(({ ids }) => ids),
    tokens - fixed,
    haystack,
    random,
  );
  return assemble([start, ...body], questions, tokens);
}

function assemble(text: readonly Int32Array[], questions: readonly Question[], tokens: number): NeedleText {
  const ids = new Int32Array(tokens);
  const answers: number[] = [];
  let at = 0;
  const add = (part: Int32Array): void => {
    ids.set(part, at);
    at += part.length;
  };
  text.forEach(add);
  for (const { question, answer } of questions) {
    add(question);
    answers.push(...Array.from(answer, (_, index) => at + index));
    add(answer);
  }
  return { ids, answers };
}
