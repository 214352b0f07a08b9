import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { drawFacts, type FactOptions } from '../../../src/data/needle/facts.js';
import { similarName } from '../../../src/data/needle/names.js';
import { CITIES, HELD_OUT } from '../../../src/data/needle/templates.js';
import * as wordings from '../../../src/data/needle/wordings.js';
import { Random } from '../../../src/random.js';

const test = suite('data/needle/facts');

const options: FactOptions = {
  officialShare: 0,
  maxDigits: 8,
  maxDistractors: 4,
  confusableShare: 0,
  looseShare: 0,
};
const drawn = (seed: number, changes: Partial<FactOptions> = {}) =>
  drawFacts(6, { ...options, ...changes }, new Random(seed));

/** The attribute counts as one word. */
const ATTRIBUTE = /(special )?magic number/g;
const IN_WORDS = {
  before: 'special magic',
  noun: 'number',
  long: 'special magic number',
  short: 'magic number',
};

const words = (text: string): string[] =>
  text
    .toLowerCase()
    .replace(ATTRIBUTE, 'attribute')
    .match(/[\w{}']+/g) ?? [];

function fourWords(text: string): string[] {
  const all = words(text);
  return all.slice(3).map((_, index) => all.slice(index, index + 4).join(' '));
}

const inWords = (wording: string): string =>
  wording.replace(/\{(before|noun|long|short)\}/g, (_, name: keyof typeof IN_WORDS) => IN_WORDS[name]);

// The official question has words of its own: it is asked in training and in the test.
test('training shares no four words in a row with a held-out line', () => {
  const { NAME_FIRST, NUMBER_FIRST, OFFICIAL_LINES, QUESTIONS, OPENINGS, ENDINGS } = wordings;
  const bare = [...NAME_FIRST, ...NUMBER_FIRST, ...OFFICIAL_LINES, ...QUESTIONS];
  const opened = [...NAME_FIRST, ...NUMBER_FIRST].flatMap((line) =>
    OPENINGS.map((opening) => `${opening} ${line}`),
  );
  const ended = [...NAME_FIRST, ...NUMBER_FIRST].flatMap((line) => ENDINGS.map((ending) => line + ending));
  const trained = new Set([...bare, ...opened, ...ended].map(inWords).flatMap(fourWords));
  const heldOut = HELD_OUT.lines('Placeholder', 7).map((line) =>
    line.replace('Placeholder', '{city}').replace('7', '{number}'),
  );
  assert.ok(heldOut.length >= 11);
  for (const line of heldOut) {
    assert.ok(line.includes('{city}') && line.includes('{number}'));
    for (const run of fourWords(line)) assert.not.ok(trained.has(run), `'${run}' of '${line}'`);
  }
});

test('words of loose lines occur in no held-out line, and are no part of a name or an attribute', () => {
  const { LOOSE_WORDS, FIRST_ADJECTIVES, SECOND_ADJECTIVES, NOUNS, NAME_PREFIXES, NAME_SUFFIXES } = wordings;
  const taken = new Set(
    [
      ...HELD_OUT.lines('Paris', 7).flatMap((line) => line.match(/\w+/g) ?? []),
      ...[HELD_OUT.names, HELD_OUT.attributes, FIRST_ADJECTIVES, SECOND_ADJECTIVES, NOUNS].flat(),
      ...[NAME_PREFIXES, NAME_SUFFIXES].flat(),
    ].map((word) => word.toLowerCase()),
  );
  assert.equal(
    LOOSE_WORDS.filter((word) => taken.has(word)),
    [],
  );
  assert.is(new Set(LOOSE_WORDS).size, LOOSE_WORDS.length);
});

test('loose lines have the parts of a fact in any order among other words', () => {
  const orders = new Set<string>();
  let loose = 0;
  for (let seed = 0; seed < 60; seed++) {
    for (const { line, number } of drawn(seed, { looseShare: 1, maxDistractors: 0 })) {
      if (/^The [a-z]+ [a-z]+ [A-Z].* [a-z]+ is:? \d+/.test(line)) continue;
      loose += 1;
      const attribute = line.toLowerCase().search(/magic number/);
      if (attribute < 0) continue;
      orders.add(String(line.indexOf(number) < attribute));
      assert.not.match(line, /[{}\n]|undefined/);
    }
  }
  assert.ok(loose > 180 && loose < 290, String(loose));
  assert.is(orders.size, 2);
});

test('training has no name prefix and no attribute of the evaluation', () => {
  const { FIRST_ADJECTIVES, SECOND_ADJECTIVES, NOUNS, NAME_PREFIXES, NAME_SUFFIXES } = wordings;
  const trained = [...FIRST_ADJECTIVES, ...SECOND_ADJECTIVES, ...NOUNS, ...NAME_PREFIXES, ...NAME_SUFFIXES];
  const lower = new Set(trained.map((word) => word.toLowerCase()));
  assert.is(lower.size, new Set(trained).size - 1, 'only royal is an adjective and a prefix');
  for (const word of [...HELD_OUT.names, ...HELD_OUT.attributes])
    assert.not.ok(lower.has(word.toLowerCase()), word);
});

test('a fact has its number in its line, and none in its question', () => {
  for (let seed = 0; seed < 100; seed++) {
    for (const { line, question, number } of drawn(seed)) {
      assert.match(line, new RegExp(`(?<![0-9])${number}(?![0-9])`));
      assert.not.match(line + question, /[{}\n]|undefined/);
      assert.not.match(question, /\d/);
      assert.is(question.at(-1), ' ');
      assert.match(number, /^[1-9]\d{0,7}$/);
    }
  }
});

test('the facts of a text can be told apart, and distractors are like another fact', () => {
  let alike = 0;
  for (let seed = 0; seed < 50; seed++) {
    const facts = drawn(seed);
    assert.ok(facts.length >= 6 && facts.length <= 10);
    assert.is(new Set(facts.map(({ question }) => question)).size, facts.length);
    alike += facts.length - 6;
  }
  assert.ok(alike > 60 && alike < 140, String(alike));
  assert.is(drawn(1, { maxDistractors: 0 }).length, 6);
});

test('confusable facts are alike in their words and differ in one thing', () => {
  let alike = 0;
  for (let seed = 0; seed < 100; seed++) {
    const facts = drawn(seed, { confusableShare: 1 });
    assert.is(new Set(facts.map(({ question }) => question)).size, facts.length);
    const confusable = facts.filter(({ isConfusable }) => isConfusable);
    assert.is(facts.length - confusable.length, 5);
    alike += confusable.length - 1;
    const lengths = confusable.map(({ line, number }) => line.replace(number, '').split(' ').length);
    // A name prefix or suffix is one or two words.
    assert.ok(
      Math.max(...lengths) - Math.min(...lengths) <= 2,
      confusable.map(({ line }) => line).join('\n'),
    );
  }
  assert.ok(alike > 140 && alike < 220, String(alike));
  assert.ok(drawn(1).every(({ isConfusable }) => !isConfusable));
});

test('the official share is that of texts in the official words alone', () => {
  const isOfficial = (facts: readonly { line: string }[]): boolean =>
    facts.every(({ line }) => /^The special magic [A-Z].* number is \d+ \. $/.test(line));
  const share = Array.from({ length: 200 }, (_, seed) => isOfficial(drawn(seed, { officialShare: 0.3 })));
  const count = share.filter(Boolean).length;
  assert.ok(count > 40 && count < 80, String(count));
  assert.ok(isOfficial(drawn(1, { officialShare: 1 })));
});

test('similar names differ, and begin alike', () => {
  const random = new Random(1);
  for (const city of CITIES) {
    for (let draw = 0; draw < 20; draw++) {
      const name = similarName(city, random);
      assert.is.not(name, city);
      assert.is(name.charAt(0), city.charAt(0));
      assert.ok(name.length >= 3 && Math.abs(name.length - city.length) <= 8, name);
    }
  }
});

test.run();
