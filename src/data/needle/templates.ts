/**
 * The words of the needle-in-a-haystack test. Instruction, needle, question, cities and the range of numbers are those
 * of the official code (microsoft/unilm, YOCO/yoco/criterions/needle_haystack.py and multi_needle.py); its list of cities
 * repeats some, which would make a question ambiguous when several needles are hidden.
 */
import { UsageError } from '../../errors.js';
import type { Random } from '../../random.js';
import { similarName } from './names.js';

export const INSTRUCTION =
  'There is a special magic number inside a lot of irrelevant text. Find it and memorize them. ' +
  'I will quiz you about the magic number there.';

export const CITIES: readonly string[] = (
  'Almaty,Amman,Amsterdam,Antananarivo,Astana,Athens,Baghdad,Bangalore,Bangkok,Barcelona,Beirut,Belgrade,Berlin,' +
  'Bratislava,Brussels,Bucharest,Budapest,Buenos Aires,Cairo,Chicago,Colombo,Copenhagen,Dakar,Damascus,Delhi,Doha,' +
  'Dubai,Helsinki,Ho Chi Minh City,Istanbul,Jakarta,Johannesburg,Kampala,Khartoum,Kigali,Kuala Lumpur,Lagos,Lima,' +
  'Lisbon,Los Angeles,Madrid,Maputo,Melbourne,Mexico City,Moscow,Mumbai,Nairobi,Oslo,Paris,Port Louis,Rabat,' +
  'San Francisco,Santiago,Sarajevo,Seattle,Seoul,Shanghai,Sofia,Sydney,Tashkent,Thimphu,Tokyo,Toronto,Tunis,' +
  'Vancouver,Victoria,Vienna,Yangon,Yerevan'
).split(',');

/** The line that is hidden. */
export const needleLine = (city: string, number: number | string): string =>
  `The special magic ${city} number is ${number} . `;

/** The question; the answer is what follows its last space. */
export const questionLine = (city: string): string =>
  `What is the special magic ${city} number? The special magic ${city} number is `;

const LARGEST_NUMBER = 50000;

/** Ways to make the test harder than the official one; the question is always the official one. */
export const NEEDLE_VARIANTS = [
  'standard',
  'colon',
  'reworded',
  'other-attribute',
  'near-city',
  'long-number',
  'paraphrased',
  'similar-city',
] as const;
export type NeedleVariant = (typeof NEEDLE_VARIANTS)[number];

export function parseVariant(text: string): NeedleVariant {
  const variant = NEEDLE_VARIANTS.find((name) => name === text);
  if (variant) return variant;
  throw new UsageError(`unknown needle variant '${text}': use ${NEEDLE_VARIANTS.join(', ')}`);
}

const REWORDED: readonly ((city: string, number: number) => string)[] = [
  (city, number) => `Remember that the magic number of ${city} is ${number} . `,
  (city, number) => `In ${city} they say that ${number} is the special magic number . `,
  (city, number) => `${number} is the magic number that belongs to ${city} . `,
];

/** More words for the needle: none of them occurs in training (`wordings.ts`). */
const PARAPHRASED: readonly ((city: string, number: number) => string)[] = [
  (city, number) => `Nobody should forget the special magic number that ${city} received: ${number} . `,
  (city, number) => `Travellers reaching ${city} must recite its magic number, namely ${number} . `,
  (city, number) => `My grandmother told me that ${city} carries the special magic number ${number} . `,
  (city, number) => `Engraved above the gate of ${city} is a magic number; it reads ${number} . `,
  (city, number) => `Should somebody mention ${city}, reply with its special magic number, ${number} . `,
  (city, number) => `${number} ! That has always been the special magic number of ${city} . `,
  (city, number) => `Because ${number} is a magic number, the mayor claimed it on behalf of ${city} . `,
  (city, number) => `Scholars assigned ${number} to ${city} long ago, calling this a special magic number . `,
];

const OTHER_ATTRIBUTES: readonly string[] = ['secret', 'year', 'code', 'area', 'lucky', 'population'];
const NEAR_NAMES: readonly string[] = ['New', 'North', 'South', 'East', 'West', 'Old', 'Little', 'Port'];
const DISTRACTORS = 3;

export function drawNumber(variant: NeedleVariant, random: Random): number {
  if (variant !== 'long-number') return 1 + random.below(LARGEST_NUMBER);
  const digits = 6 + random.below(3);
  return 10 ** (digits - 1) + random.below(9 * 10 ** (digits - 1));
}

export function variantLine(variant: NeedleVariant, city: string, number: number, random: Random): string {
  if (variant === 'colon') return `The special magic ${city} number is: ${number}`;
  if (variant === 'reworded') return random.pick(REWORDED)(city, number);
  if (variant === 'paraphrased') return random.pick(PARAPHRASED)(city, number);
  return needleLine(city, number);
}

/** Lines that could be mistaken for the needle about `city`, each with the number it carries. */
export function distractorLines(
  variant: NeedleVariant,
  city: string,
  random: Random,
): { text: string; number: number }[] {
  return distractorFrames(variant, city, random).map((frame) => {
    const number = drawNumber(variant, random);
    return { text: frame(number), number };
  });
}

function distractorFrames(
  variant: NeedleVariant,
  city: string,
  random: Random,
): ((number: number) => string)[] {
  const some = (words: readonly string[]): string[] => random.shuffle([...words]).slice(0, DISTRACTORS);
  const about = (other: string) => (number: number) => needleLine(other, number);
  switch (variant) {
    case 'other-attribute':
      return some(OTHER_ATTRIBUTES).map((word) => (n) => `The special magic ${city} ${word} is ${n} . `);
    case 'near-city':
      return some(NEAR_NAMES).map((word) => about(`${word} ${city}`));
    case 'similar-city':
      return similarCities(city, random).map(about);
    default:
      return [];
  }
}

function similarCities(city: string, random: Random): string[] {
  const names = new Set<string>();
  while (names.size < DISTRACTORS) {
    const name = similarName(city, random);
    if (!CITIES.includes(name)) names.add(name);
  }
  return [...names];
}

/** The words of the evaluation that training keeps out: lines about `city`, name prefixes, and attributes. */
export const HELD_OUT = {
  lines: (city: string, number: number): string[] =>
    [...REWORDED, ...PARAPHRASED].map((line) => line(city, number)),
  names: NEAR_NAMES,
  attributes: OTHER_ATTRIBUTES,
} as const;
