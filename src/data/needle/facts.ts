/** Facts to hide and to ask for, in the words of the official test or in many others. */
import type { Random } from '../../random.js';
import { inventedName, similarName } from './names.js';
import { CITIES, drawNumber, needleLine, questionLine } from './templates.js';
import {
  ENDINGS,
  FIRST_ADJECTIVES,
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
}

export interface Fact {
  /** What is hidden, without line ends. */
  readonly line: string;
  /** What is asked, up to where the number follows. */
  readonly question: string;
  readonly number: string;
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
      return { line: needleLine(city, number), question: questionLine(city), number };
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
  const topics: Topic[] = [];
  const keys = new Set<string>();
  const add = (topic: Topic): void => {
    if (keys.has(keyOf(topic))) return;
    keys.add(keyOf(topic));
    topics.push(topic);
  };
  while (topics.length < count) add(drawTopic(random));
  const distractors = random.below(options.maxDistractors + 1);
  for (let done = 0; done < distractors; done++) add(similarTopic(random.pick(topics), random));
  return random.shuffle(topics).map((topic) => worded(topic, options.maxDigits, random));
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

/** The same attribute of a name like this one, or another attribute of the same name. */
function similarTopic(topic: Topic, random: Random): Topic {
  const { city } = topic;
  const kind = random.below(6);
  if (kind < 2) return { ...topic, city: similarName(city, random) };
  if (kind === 2) return { ...topic, city: `${random.pick(NAME_PREFIXES)} ${city}` };
  if (kind === 3) return { ...topic, city: `${city} ${random.pick(NAME_SUFFIXES)}` };
  if (kind === 4) return { ...topic, noun: random.pick(NOUNS) };
  return { ...topic, second: random.pick(SECOND_ADJECTIVES) };
}

function worded(topic: Topic, maxDigits: number, random: Random): Fact {
  const number = chance(0.3, random)
    ? String(drawNumber('standard', random))
    : drawDigits(1 + random.below(maxDigits), random);
  const question = chance(0.6, random) ? OFFICIAL_QUESTION : random.pick(QUESTIONS);
  return { line: lineOf(topic, number, random), question: fill(question, topic, number), number };
}

/** A number of so many digits; the first is not 0. */
export function drawDigits(count: number, random: Random): string {
  const rest = Array.from({ length: count - 1 }, () => String(random.below(10)));
  return [String(1 + random.below(9)), ...rest].join('');
}

function lineOf(topic: Topic, number: string, random: Random): string {
  if (chance(0.35, random)) return fill(random.pick(OFFICIAL_LINES), topic, number);
  const wording = random.pick(chance(0.6, random) ? NAME_FIRST : NUMBER_FIRST);
  const opening = chance(0.4, random) ? `${random.pick(OPENINGS)} ` : '';
  const line = fill(`${opening}${wording}${random.pick(ENDINGS)}`, topic, number);
  return line.charAt(0).toUpperCase() + line.slice(1);
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
