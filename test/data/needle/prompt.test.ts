import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadCorpus } from '../../../src/data/corpus.js';
import { Haystack } from '../../../src/data/needle/haystack.js';
import { CITIES, NEEDLE_VARIANTS } from '../../../src/data/needle/templates.js';
import {
  buildNeedlePrompt,
  firstNumber,
  isExactAnswer,
  type NeedleSpec,
} from '../../../src/data/needle/prompt.js';
import { loadTokenizer, type Tokenizer } from '../../../src/data/tokenizer.js';

const test = suite('data/needle');

let directory = '';
let haystack: Haystack;
let tokenizer: Tokenizer;
test.before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-needle-'));
  const path = join(directory, 'hay.txt');
  writeFileSync(
    path,
    Array.from({ length: 300 }, (_, i) => `Sentence ${i} is\n here. Is it? "Yes!" `).join(''),
  );
  tokenizer = await loadTokenizer('bytes');
  haystack = Haystack.fromCorpus(await loadCorpus(path), tokenizer);
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

const task = (changes: Partial<NeedleSpec> = {}): NeedleSpec => ({
  context: 4096,
  depth: 50,
  needles: 1,
  variant: 'standard',
  trial: 0,
  seed: 1,
  ...changes,
});

const textOf = (changes: Partial<NeedleSpec> = {}, size = 1000): string => {
  const chunks = [...buildNeedlePrompt(task(changes), haystack, tokenizer).chunks(size)];
  return tokenizer.decode(chunks.flatMap((chunk) => [...chunk]));
};

test('the prompt has the official words, in order', () => {
  const prompt = buildNeedlePrompt(task(), haystack, tokenizer);
  const [line] = prompt.lines;
  const text = textOf();
  const opening =
    'There is a special magic number inside a lot of irrelevant text. Find it and memorize them. I will';
  assert.ok(text.startsWith(opening));
  assert.ok(text.includes(`\nThe special magic ${line?.city} number is ${prompt.answer} . \n`));
  const question = `\nWhat is the special magic ${line?.city} number? The special magic ${line?.city} number is `;
  assert.ok(text.endsWith(question));
  assert.is(text.split(prompt.answer).length, 2, 'the number stands in the text once');
});

test('counts tokens exactly, whatever the chunk size', async () => {
  for (const name of ['bytes', 'cl100k_base']) {
    const used = await loadTokenizer(name);
    const hay = Haystack.fromCorpus(await loadCorpus(join(directory, 'hay.txt')), used);
    for (const context of [400, 4096, 40001]) {
      const prompt = buildNeedlePrompt(task({ context, needles: 2 }), hay, used);
      const whole = [...prompt.chunks(context)];
      assert.equal(
        whole.map(({ length }) => length),
        [context],
      );
      const pieces = [...prompt.chunks(997)];
      assert.equal(
        pieces.flatMap((piece) => [...piece]),
        [...(whole[0] ?? [])],
      );
      assert.ok(pieces.slice(0, -1).every(({ length }) => length === 997));
    }
  }
});

test('needles stand between sentences at their depth; 0 follows the instruction and 100 precedes the question', () => {
  const needle = /\nThe special magic [\w ]+ number is \d+ \. \n/;
  assert.match(textOf({ depth: 0 }), /magic number there\.\nThe special magic/);
  assert.match(textOf({ depth: 100 }), / \. \n\nWhat is the special magic/);
  for (const depth of [20, 50, 80]) {
    const text = textOf({ depth });
    const at = text.search(needle);
    assert.match(text.slice(at - 1, at), /[.?!"]/);
    assert.ok(Math.abs(at / text.length - depth / 100) < 0.04, `depth ${depth} at ${at / text.length}`);
    const [line] = buildNeedlePrompt(task({ depth }), haystack, tokenizer).lines;
    assert.ok((line?.depth ?? 0) <= depth && (line?.depth ?? 0) > depth - 2);
  }
});

test('the filler is running text of the haystack, longer contexts repeat it', () => {
  const filler = textOf({ context: 50000, depth: 100 }).split('there.')[1] ?? '';
  const source = Array.from({ length: 300 }, (_, i) => ` Sentence ${i} is here. Is it? "Yes!"`).join('');
  const [body = ''] = filler.split('\nThe special');
  assert.ok(source.repeat(6).includes(body));
  assert.ok(body.length > source.length);
});

test('several needles: distinct cities, one of them asked, all in the text', () => {
  for (let trial = 0; trial < 5; trial++) {
    const prompt = buildNeedlePrompt(task({ needles: 8, trial }), haystack, tokenizer);
    const text = textOf({ needles: 8, trial });
    assert.is(new Set(prompt.lines.map(({ city }) => city)).size, 8);
    assert.is(prompt.lines.filter(({ kind }) => kind === 'asked').length, 1);
    assert.ok(prompt.lines.every((line) => text.includes(line.text)));
    const depths = prompt.lines.map(({ depth }) => depth);
    assert.equal(
      depths,
      [...depths].sort((a, b) => a - b),
    );
  }
});

test('every trial, depth, context and seed has its own draw, the same one each time', () => {
  assert.is(textOf(), textOf());
  const texts = [
    textOf(),
    textOf({ trial: 1 }),
    textOf({ depth: 60 }),
    textOf({ seed: 2 }),
    textOf({ needles: 2 }),
  ];
  assert.is(new Set(texts).size, texts.length);
});

test('harder variants: distractors and other words hide the same answer', () => {
  for (const variant of NEEDLE_VARIANTS) {
    const prompt = buildNeedlePrompt(task({ variant }), haystack, tokenizer);
    const text = textOf({ variant });
    assert.ok(text.includes(prompt.answer), variant);
    const distractors = prompt.lines.filter(({ kind }) => kind === 'distractor').length;
    const withDistractors = ['other-attribute', 'near-city', 'similar-city'].includes(variant);
    assert.is(distractors, withDistractors ? 3 : 0, variant);
    if (variant === 'long-number') assert.ok(prompt.answer.length >= 6);
  }
});

test('contexts and needles that cannot be are refused', () => {
  const build = (changes: Partial<NeedleSpec>) => () => buildNeedlePrompt(task(changes), haystack, tokenizer);
  assert.throws(build({ context: 200 }), /200 tokens is too short: .* take \d+/);
  assert.throws(build({ depth: 101 }), /not between 0 and 100/);
  assert.throws(build({ depth: NaN }), /not between 0 and 100/);
  assert.throws(build({ needles: CITIES.length + 1 }), /use 1 to \d+/);
});

test('an answer counts if its first number is the expected one', () => {
  assert.ok(isExactAnswer('4821 . The', '4821'));
  assert.ok(isExactAnswer(' is 4821.', '4821'));
  assert.not.ok(isExactAnswer('48213 .', '4821'));
  assert.not.ok(isExactAnswer('7 4821', '4821'));
  assert.not.ok(isExactAnswer('none', '4821'));
  assert.is(firstNumber('no'), null);
});

test('a haystack without sentence ends is cut between words', async () => {
  const path = join(directory, 'plain.txt');
  writeFileSync(path, 'word '.repeat(2000));
  const plain = Haystack.fromCorpus(await loadCorpus(path), tokenizer);
  assert.ok(plain.sentences >= 10);
  assert.is(plain.length, 10000);
});

test('a tokenizer that puts a space before a text puts none before sentences, needles and question', async () => {
  const bytes = await loadTokenizer('bytes');
  // As Llama 2's: what `encode` is given begins a text, what `encodeParts` is given after the first part does not.
  const prefixing: Tokenizer = {
    ...{ name: 'prefixing', vocabSize: 264, beginOfText: null, endOfText: 256, padding: null },
    ...{ stopTokens: [256], origins: [] },
    encode: (text) => bytes.encode(` ${text}`),
    encodeAll: (texts) => texts.map((text) => bytes.encode(` ${text}`)),
    encodePieces: (pieces) => bytes.encodePieces(pieces),
    encodeDocuments: (documents) => bytes.encodeDocuments(documents),
    encodeParts: ([first = '', ...rest]) => bytes.encodeParts([` ${first}`, ...rest]),
    decode: (ids) => bytes.decode(ids),
  };
  const corpus = await loadCorpus(join(directory, 'hay.txt'));
  const prompt = buildNeedlePrompt(task({ needles: 2 }), Haystack.fromCorpus(corpus, prefixing), prefixing);
  const text = bytes.decode([...prompt.chunks(5000)].flatMap((chunk) => [...chunk]));
  assert.match(text, /^ There is/, 'only the beginning of the prompt begins a text');
  assert.not.match(text.replaceAll(' . \n', ''), / {2}| \n/);
});

test('Chinese haystacks have needles within a sentence of their depth', async () => {
  const path = join(directory, 'chinese.txt');
  writeFileSync(path, Array.from({ length: 400 }, (_, i) => `这是第${i}个句子，里面没有什么。`).join(''));
  const chinese = Haystack.fromCorpus(await loadCorpus(path), tokenizer);
  for (const depth of [0, 25, 50, 75, 100]) {
    const { placedDepth } = buildNeedlePrompt(task({ depth }), chinese, tokenizer);
    assert.ok(Math.abs(placedDepth - depth) < 2, `${depth}: ${placedDepth}`);
  }
});

test.run();
