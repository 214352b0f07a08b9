import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  parseItems,
  parseRecallTask,
  RECALL_TASK_NAMES,
  RECALL_TASKS,
  requireSequences,
  type RecallExample,
  type RecallOptions,
  type RecallTaskName,
} from '../../src/data/recall/index.js';
import { Random } from '../../src/random.js';
import { refuses } from '../checkpoint/scratch.js';

const test = suite('data/recall');

const VOCABULARY = 256;
const [DIGIT, NAMES, VALUES, NOISE] = [8, 18, 97, 176];

const draw = (name: RecallTaskName, changes: Partial<RecallOptions> = {}, seed = 1): RecallExample => {
  const options = { length: 128, items: name === 'needle-single' ? 1 : 4, vocabSize: VOCABULARY, ...changes };
  assert.is(RECALL_TASKS[name].refusal(options), null, name);
  return RECALL_TASKS[name].make(options, new Random(seed));
};

/** What an oracle that reads the tokens before each position says: the answers again, found by a second way. */
const ORACLES: Readonly<Record<RecallTaskName, (tokens: readonly number[], question: number) => number[]>> = {
  mqar: (tokens, at) => [tokens[tokens.indexOf(tokens[at] as number) + 1] as number],
  'phone-book': (tokens, at) => entryAfter(tokens, tokens.slice(at - 2, at), 4),
  'selective-copying': (tokens, at) => {
    const copied = tokens.filter((token) => token >= VALUES && token < NOISE);
    return [copied[at - (tokens.length - copied.length)] as number];
  },
  'needle-single': (tokens, at) => entryAfter(tokens, tokens.slice(at - 1, at), 4),
  'needle-multi-key': (tokens, at) => entryAfter(tokens, tokens.slice(at - 1, at), 4),
  'needle-multi-query': (tokens, at) => entryAfter(tokens, tokens.slice(at - 1, at), 4),
  'needle-multi-value': (tokens, at) =>
    tokens.slice(0, at - 2).filter((_, index, before) => before[index - 1] === 2),
  'variable-tracking': (tokens, at) => {
    const found: number[] = [];
    const known = new Set([tokens[at - 1]]);
    for (let index = 0; index < at - 2; index++) {
      if (tokens[index] !== 1 || !known.has(tokens[index + 3])) continue;
      found.push(tokens[index + 1] as number);
      known.add(tokens[index + 1]);
    }
    return found;
  },
  'common-words': (tokens, at) => {
    const counted = counts(tokens.slice(0, at));
    const most = Math.max(...counted.values());
    return [...counted].filter(([, count]) => count === most).map(([token]) => token);
  },
  'frequent-words': (tokens, at) =>
    [...counts(tokens.slice(0, at))].sort((a, b) => b[1] - a[1]).map(([token]) => token),
};

function counts(tokens: readonly number[]): Map<number, number> {
  const counted = new Map<number, number>();
  for (const token of tokens) counted.set(token, (counted.get(token) ?? 0) + 1);
  return counted;
}

/** What stands after the first "entry NAME is". */
function entryAfter(tokens: readonly number[], name: readonly number[], count: number): number[] {
  const block = [1, ...name, 2];
  const at = tokens.findIndex((_, index) => block.every((token, offset) => tokens[index + offset] === token));
  return tokens.slice(at + block.length, at + block.length + count);
}

for (const name of RECALL_TASK_NAMES) {
  test(`${name}: the answers follow from the tokens, at many lengths`, () => {
    for (let seed = 0; seed < 40; seed++) {
      const length = 64 + 14 * seed;
      const items = name === 'needle-single' ? 1 : 1 + (seed % 4);
      const { tokens, questions } = draw(name, { length, items }, seed);
      assert.is(tokens.length, length);
      assert.ok(tokens.every((token) => token >= 0 && token < VOCABULARY));
      assert.ok(questions.length >= 1);
      const all = [...tokens];
      for (const { positions, answers } of questions) {
        const [first = NaN] = positions;
        assert.is(positions.length, answers.length);
        assert.equal(ORACLES[name](all, first).slice(0, answers.length), answers, `${name}, seed ${seed}`);
        // An answer of several tokens is read on as far as it was right.
        positions.slice(1).forEach((position, index) => {
          assert.is(position, first + index + 1);
          assert.is(tokens[position], answers[index]);
        });
      }
    }
  });

  test(`${name}: a seed gives the same sequence, another one another`, () => {
    assert.equal(draw(name), draw(name));
    assert.not.equal(draw(name).tokens, draw(name, {}, 2).tokens);
  });
}

test('mqar is laid out as in Zoology: pairs, then every key once, at even distances, mostly near', () => {
  let near = 0;
  for (let seed = 0; seed < 200; seed++) {
    const { tokens, questions } = draw('mqar', { items: 8 }, seed);
    const keys = [...tokens.slice(0, 16)].filter((_, index) => index % 2 === 0);
    const values = [...tokens.slice(0, 16)].filter((_, index) => index % 2 === 1);
    assert.ok(keys.every((key) => key >= 1 && key < VOCABULARY / 2));
    assert.ok(values.every((value) => value >= VOCABULARY / 2));
    assert.is(new Set(keys).size, 8);
    assert.is(new Set(values).size, 8);
    const places = questions.map(({ positions: [position = NaN] }) => position);
    assert.is(new Set(places).size, 8);
    assert.ok(places.every((place) => place >= 16 && place % 2 === 0));
    assert.equal(
      places.map((place) => tokens[place]),
      keys,
    );
    near += places.filter((place) => place < 16 + 28).length;
  }
  // Drawn one after another by the power law, 61 % lie in the nearer quarter; evenly spread it were 25 %.
  assert.ok(Math.abs(near / 1600 - 0.61) < 0.03, String(near));
});

test('the digits of a number and the words of a name are in their ranges', () => {
  const { questions, tokens } = draw('phone-book', { items: 9 });
  assert.is(questions.length, 4);
  assert.ok(questions.every(({ answers }) => answers.every((digit) => digit >= DIGIT && digit < NAMES)));
  assert.is([...tokens].filter((token) => token === 1).length, 9);
  const { tokens: other } = draw('needle-multi-key', { items: 5 });
  assert.is([...other].filter((token) => token === 1).length, 5);
});

test('long sequences have as much to recall as short ones', () => {
  for (const name of RECALL_TASK_NAMES) {
    const { tokens, questions } = draw(name, { length: 20_000 });
    assert.is(tokens.length, 20_000);
    assert.ok(questions.length <= 4);
  }
});

test('what a task has no sequences for is refused with the reason', () => {
  const refused: [RecallTaskName, Partial<RecallOptions>, RegExp][] = [
    ['mqar', { length: 65 }, /mqar with 4 pairs in 65 tokens: the length must be even/],
    ['mqar', { items: 40 }, /40 pairs need 160 tokens/],
    ['mqar', { length: 1024, items: 200 }, /a vocabulary of 256 has 127 keys/],
    ['needle-single', { items: 2 }, /there is one needle/],
    ['needle-multi-key', { length: 20 }, /4 needles need 34 tokens/],
    ['needle-multi-key', { vocabSize: 64 }, /the vocabulary must have 128 tokens or more/],
    ['needle-multi-value', { length: 2048, items: 100 }, /has room for 79 values/],
    ['phone-book', { length: 60 }, /4 entries need 63 tokens/],
    ['selective-copying', { length: 7 }, /4 tokens to copy need 8 tokens/],
    ['variable-tracking', { length: 40 }, /4 hops need 47 tokens/],
    ['common-words', { length: 51 }, /4 common words need 52 tokens/],
    ['frequent-words', { length: 12 }, /too few for 4 words of different frequencies/],
  ];
  for (const [name, changes, message] of refused)
    refuses(() => {
      const options = { length: 128, items: 4, vocabSize: VOCABULARY, ...changes };
      requireSequences(RECALL_TASKS[name], options);
    }, message);
  refuses(() => parseRecallTask('chess'), /unknown recall task 'chess': use mqar, phone-book/);
  refuses(() => parseItems('0'), /'0' is no number of items/);
  assert.is(parseItems('16'), 16);
});

test.run();
