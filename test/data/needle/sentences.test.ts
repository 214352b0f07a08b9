import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sentences, type Sentence } from '../../../src/data/needle/sentences.js';

const test = suite('data/needle/sentences');

const split = (...pieces: string[]): Sentence[] => [
  ...sentences(pieces.map((text, index) => ({ text, endsDocument: index === pieces.length - 1 }))),
];
const texts = (...pieces: string[]): string[] => split(...pieces).map(({ text }) => text);
const joined = (found: readonly Sentence[]): string =>
  found.map(({ text, spaced }) => (spaced ? ` ${text}` : text)).join('');

test('English sentences end at marks with their closing quotes, before white space', () => {
  assert.equal(texts('One is.  "Is it?" Yes (it is!) so v1.2\nholds. End'), [
    'One is.',
    '"Is it?"',
    'Yes (it is!)',
    'so v1.2 holds.',
    'End',
  ]);
});

test('pieces of a document are one text', () => {
  assert.equal(texts('Half a sen', 'tence. And', ' one.', ' Last.'), [
    'Half a sentence.',
    'And one.',
    'Last.',
  ]);
});

test('sentences of other scripts end at their own marks, with no space put between them', () => {
  const chinese = '我们去哪里？我不知道。“走吧！”他说。';
  assert.ok(texts(chinese).length >= 3);
  assert.is(joined(split(chinese)), ` ${chinese}`);
  assert.equal(texts('यह एक वाक्य है। यह दूसरा है।'), ['यह एक वाक्य है।', 'यह दूसरा है।']);
  assert.is(texts('ما هذا؟ هذا كتاب.').length, 2);
});

test('long texts without marks are cut between words, or between characters, never inside one', () => {
  assert.ok(texts('word '.repeat(1000)).every((text) => text.length <= 600 && /^(word ?)+$/.test(text)));
  const emoji = '\u{1F600}'.repeat(5000);
  const found = split(emoji);
  assert.ok(found.length > 10);
  assert.is(joined(found), ` ${emoji}`);
  assert.ok(found.every(({ text }) => !/[\uD800-\uDBFF]$|^[\uDC00-\uDFFF]/.test(text)));
});

test('what made the expression of before take time in the square of the length is read at once', () => {
  const marks = '!'.repeat(300_000);
  assert.is(joined(split(`${marks}x`)), ` ${marks}x`);
  const many = '你好吗？'.repeat(40_000);
  assert.is(texts(many).length, 40_000);
});

test.run();
