/** Facts to hide and to ask for, in the words of the official test or in many others. */
import type { Random } from '../../random.js';
import { inventedName, similarName } from './names.js';
import { CITIES, drawNumber, needleLine, questionLine } from './templates.js';
import {
  ENDINGS,
  FIRST_ADJECTIVES,
  LOOSE_WORDS,
  NAME_FIRST,
  NAME_PREFIXES,
  NAME_SUFFIXES,
  NOUNS,
  NUMBER_FIRST,
  OFFICIAL_LINES,
  OFFICIAL_QUESTION,
  OPENINGS,
  QUESTIONS,
  SECOND_ADJECTIVES,
} from './wordings.js';

/** How facts are worded. */
export interface FactOptions {
  /** Share of texts with nothing but the official line, question, cities and numbers, 0 to 1. */
  readonly officialShare: number;
  /** Digits of a number at most, in the other texts. */
  readonly maxDigits: number;
  /** Facts added to a text at most, each easily mistaken for another of its facts. */
  readonly maxDistractors: number;
  /** Share of the other texts in which all added facts are like one and the same, in the same words. */
  readonly confusableShare: number;
  /** Share of lines that are drawn word by word around name, attribute and number, among those not in the official words. */
  readonly looseShare: number;
}

export interface Fact {
  /** What is hidden, without line ends. */
  readonly line: string;
  /** What is asked, up to where the number follows. */
  readonly question: string;
  readonly number: string;
  /** Whether it is the fact that all added ones are like, or one of these. */
  readonly isConfusable: boolean;
}

/** Facts of one text, no two of which have one name and attribute. */
export function drawFacts(count: number, options: FactOptions, random: Random): Fact[] {
  const { officialShare } = options;
  const isOfficial = officialShare === 1 || random.uniform() < officialShare;
  return isOfficial ? officialFacts(count, random) : variedFacts(count, options, random);
}

function officialFacts(count: number, random: Random): Fact[] {
  return random
    .shuffle([...CITIES])
    .slice(0, count)
    .map((city) => {
      const number = String(drawNumber('standard', random));
      return { line: needleLine(city, number), question: questionLine(city), number, isConfusable: false };
    });
}

/** What a fact is about: a name, and an attribute of two adjectives and a noun. */
interface Topic {
  readonly city: string;
  readonly first: string;
  readonly second: string;
  readonly noun: string;
}

/** The first adjective is left out of some wordings: it tells no topics apart. */
const keyOf = ({ city, second, noun }: Topic): string => `${second} ${noun} of ${city}`;

const chance = (share: number, random: Random): boolean => random.uniform() < share;

function variedFacts(count: number, options: FactOptions, random: Random): Fact[] {
  const { confusableShare } = options;
  const topics = new Topics();
  while (topics.all.length < count) topics.add(drawTopic(random));
  const distractors = random.below(options.maxDistractors + 1);
  // A share of 0 draws nothing, so that a recipe without it keeps its texts.
  if (confusableShare > 0 && chance(confusableShare, random)) {
    return random.shuffle(confusableFacts(topics, distractors, options, random));
  }
  for (let done = 0; done < distractors; done++) {
    const topic = random.pick(topics.all);
    topics.add(random.pick(LIKENESSES)(topic, random));
  }
  return random.shuffle([...topics.all]).map((topic) => worded(topic, options, random));
}

/** Topics that can be told apart. */
class Topics {
  readonly all: Topic[] = [];
  private readonly keys = new Set<string>();

  /** Leaves out one that is there. */
  add(topic: Topic): void {
    if (this.keys.has(keyOf(topic))) return;
    this.keys.add(keyOf(topic));
    this.all.push(topic);
  }
}

/** The facts of `topics` and more that differ from the first in one way; it and these have the same words. */
function confusableFacts(topics: Topics, distractors: number, options: FactOptions, random: Random): Fact[] {
  const [first, ...others] = topics.all as [Topic, ...Topic[]];
  const likeness = random.pick(CONFUSIONS);
  for (let done = 0; done < distractors; done++) topics.add(likeness(first, random));
  const words = drawWords(options, random);
  return [
    ...[first, ...topics.all.slice(1 + others.length)].map((topic) => ({
      ...worded(topic, options, random, words),
      isConfusable: true,
    })),
    ...others.map((topic) => worded(topic, options, random)),
  ];
}

function drawTopic(random: Random): Topic {
  const city = chance(0.5, random) ? random.pick(CITIES) : inventedName(random);
  if (chance(0.6, random)) return { city, first: 'special', second: 'magic', noun: 'number' };
  return {
    city,
    first: random.pick(FIRST_ADJECTIVES),
    second: random.pick(SECOND_ADJECTIVES),
    noun: random.pick(NOUNS),
  };
}

type Likeness = (topic: Topic, random: Random) => Topic;

const otherLetters: Likeness = (topic, random) => ({ ...topic, city: similarName(topic.city, random) });
const prefixed: Likeness = (topic, random) => ({
  ...topic,
  city: `${random.pick(NAME_PREFIXES)} ${topic.city}`,
});
const suffixed: Likeness = (topic, random) => ({
  ...topic,
  city: `${topic.city} ${random.pick(NAME_SUFFIXES)}`,
});
const otherNoun: Likeness = (topic, random) => ({ ...topic, noun: random.pick(NOUNS) });
const otherAdjective: Likeness = (topic, random) => ({ ...topic, second: random.pick(SECOND_ADJECTIVES) });
/** Any word may stand before a name, not only those of a list. */
const newlyPrefixed: Likeness = (topic, random) => ({
  ...topic,
  city: `${inventedName(random)} ${topic.city}`,
});

/** The same attribute of a name like this one, or another attribute of the same name. */
const LIKENESSES = [otherLetters, otherLetters, prefixed, suffixed, otherNoun, otherAdjective];
const CONFUSIONS = [otherLetters, otherLetters, prefixed, newlyPrefixed, suffixed, otherNoun, otherAdjective];

/** The wordings of a fact's line and question. */
interface Words {
  readonly question: string;
  readonly line: string;
}

function drawWords({ looseShare }: FactOptions, random: Random): Words {
  return {
    question: chance(0.6, random) ? OFFICIAL_QUESTION : random.pick(QUESTIONS),
    line: drawLine(looseShare, random),
  };
}

/** @param words absent: drawn */
function worded(topic: Topic, options: FactOptions, random: Random, words?: Words): Fact {
  const number = chance(0.3, random)
    ? String(drawNumber('standard', random))
    : drawDigits(1 + random.below(options.maxDigits), random);
  const { question, line } = words ?? drawWords(options, random);
  const filled = fill(line, topic, number);
  return {
    line: filled.charAt(0).toUpperCase() + filled.slice(1),
    question: fill(question, topic, number),
    number,
    isConfusable: false,
  };
}

/** A number of so many digits; the first is not 0. */
export function drawDigits(count: number, random: Random): string {
  const rest = Array.from({ length: count - 1 }, () => String(random.below(10)));
  return [String(1 + random.below(9)), ...rest].join('');
}

function drawLine(looseShare: number, random: Random): string {
  if (chance(0.35, random)) return random.pick(OFFICIAL_LINES);
  // As above: a share of 0 draws nothing.
  if (looseShare > 0 && chance(looseShare, random)) return looseLine(random);
  const wording = random.pick(chance(0.6, random) ? NAME_FIRST : NUMBER_FIRST);
  const opening = chance(0.4, random) ? `${random.pick(OPENINGS)} ` : '';
  return `${opening}${wording}${random.pick(ENDINGS)}`;
}

const LONGEST_GAP = 6;

/**
 * Name, attribute and number in any order, and before, between and after them words that say nothing, every third of them
 * made up: what is left to learn is that they stand in one line.
 */
function looseLine(random: Random): string {
  const gap = (): string[] =>
    Array.from({ length: random.below(LONGEST_GAP + 1) }, () => {
      const word = random.below(3) === 0 ? inventedName(random).toLowerCase() : random.pick(LOOSE_WORDS);
      return random.below(10) === 0 ? `${word}${random.pick([',', ':', ';'])}` : word;
    });
  const parts = random.shuffle(['{city}', '{number}', chance(0.5, random) ? '{long}' : '{short}']);
  const words = [...parts.flatMap((part) => [...gap(), part]), ...gap()];
  return `${words.join(' ')}${random.pick(ENDINGS)}`;
}

function fill(wording: string, { city, first, second, noun }: Topic, number: string): string {
  const words: Readonly<Record<string, string>> = {
    city,
    number,
    noun,
    before: `${first} ${second}`,
    long: `${first} ${second} ${noun}`,
    short: `${second} ${noun}`,
  };
  return wording.replace(/\{(\w+)\}/g, (_, name: string) => words[name] as string);
}
