import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import fc from 'fast-check';
import { tokenize } from '../../../src/data/token-store.js';
import { Random } from '../../../src/random.js';
import { loadTokenizer } from '../../../src/data/tokenizer.js';
import type { Tokenizer } from '../../../src/data/tokenizer.js';
import { HuggingFaceTokenizer } from '../../../src/data/tokenizers/hugging-face.js';
import type { Description } from './files.js';
import { addedToken, byteLevel, llamaLike, writeFiles } from './files.js';

const test = suite('data/tokenizers/windows');
const directory = mkdtempSync(join(tmpdir(), 'yoco-windows-'));
test.after(() => {
  rmSync(directory, { recursive: true });
});

const SMALL = { window: 96, overlap: 32, largest: 1 << 20 };

const metaspace = (prepend: string, split: boolean): Description => ({
  type: 'Metaspace',
  replacement: '▁',
  prepend_scheme: prepend,
  split,
});
const model = llamaLike().model as Description;
const unigram: Description = {
  type: 'Unigram',
  unk_id: 0,
  byte_fallback: false,
  vocab: [
    ['<unk>', 0],
    ...Array.from('▁abcdefghijklmnopqrstuvwxyz').map((letter, index) => [letter, -10 - index / 100]),
    ...['▁the', '▁a', 'og', '▁dog', 'in', 'on', 'ing'].map((token, index) => [token, -5 - index / 7]),
  ],
};
const wordPiece: Description = {
  type: 'WordPiece',
  unk_token: '[UNK]',
  continuing_subword_prefix: '##',
  max_input_chars_per_word: 100,
  vocab: Object.fromEntries(
    [
      '[UNK]',
      ...Array.from('abcdefghijklmnopqrstuvwxyz.,!'),
      ...Array.from('abcdefghijklmnopqrstuvwxyz', (c) => `##${c}`),
      'the',
      '##og',
      'little',
    ].map((token, id) => [token, id]),
  ),
};

/** One of each kind that encodes texts in its own way. */
const KINDS: Readonly<Record<string, Description>> = {
  'prefix space, no words': llamaLike(),
  'metaspace in words': llamaLike({ normalizer: null, pre_tokenizer: metaspace('always', true) }),
  'metaspace, first only': llamaLike({ normalizer: null, pre_tokenizer: metaspace('first', false) }),
  'metaspace, never': llamaLike({ normalizer: null, pre_tokenizer: metaspace('never', true) }),
  'bytes in words': byteLevel(),
  'bytes with a prefix space': byteLevel({
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
  }),
  'digits in threes': byteLevel({
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: '\\p{N}{1,3}' }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
  }),
  'stripped and lowercased': llamaLike({
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'NFKC' },
        { type: 'Strip', strip_left: true, strip_right: true },
        { type: 'Lowercase' },
        { type: 'Replace', pattern: { Regex: ' {2,}' }, content: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
  }),
  'added tokens that take space': byteLevel({
    added_tokens: [
      ...(byteLevel().added_tokens as Description[]),
      addedToken(267, 'dog', { lstrip: true, single_word: true, special: false }),
      addedToken(268, 'END', { rstrip: true, special: false }),
    ],
  }),
  unigram: llamaLike({
    model: unigram,
    added_tokens: [addedToken(0, '<unk>')],
    post_processor: null,
    normalizer: null,
    pre_tokenizer: metaspace('always', true),
  }),
  'word pieces': llamaLike({
    model: wordPiece,
    added_tokens: [addedToken(0, '[UNK]')],
    post_processor: null,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
  }),
  'one word for a whole text': llamaLike({
    model: { ...model, merges: [], vocab: { '<unk>': 0, '<s>': 1, '</s>': 2 }, byte_fallback: false },
  }),
};

const words = fc.constantFrom(
  'the',
  ' the',
  ' dog',
  ' little ',
  'END',
  ' ',
  '   ',
  '\n\n',
  '12345',
  '</s>',
  '<bos>',
  '…',
  '中文字',
  '🎉',
  'é',
  '!',
  'x',
);
const texts = fc.array(words, { minLength: 1, maxLength: 120 }).map((parts) => parts.join(''));
const runs = [
  'a'.repeat(400),
  ' '.repeat(400),
  '1'.repeat(400),
  '中'.repeat(400),
  '\n'.repeat(301),
  ' the dog'.repeat(60),
  `${'dog '.repeat(80)}END      `,
];

const load = (name: string, description: Description, sizes = SMALL): HuggingFaceTokenizer =>
  HuggingFaceTokenizer.load(writeFiles(join(directory, name), description), sizes);

const joined = (parts: Iterable<Int32Array>): number[] => [...parts].flatMap((part) => [...part]);

/** Cuts a text at pseudo-random places, also within surrogate pairs. */
function cut(text: string, step: number): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < text.length; at += step) pieces.push(text.slice(at, at + step));
  return pieces;
}

for (const [name, description] of Object.entries(KINDS)) {
  test(`windows give the ids of the whole text: ${name}`, () => {
    const windowed = load(name, description);
    const whole = load(name, description, { ...SMALL, window: 1 << 20 });
    const same = (text: string): void => {
      const expected = [...whole.encode(text)];
      assert.equal([...windowed.encode(text)], expected, JSON.stringify(text));
      assert.equal(
        joined(windowed.encodePieces(cut(text, 7))),
        expected,
        `in pieces: ${JSON.stringify(text)}`,
      );
      assert.equal(
        joined(windowed.encodeParts(cut(text, 13))),
        expected,
        `in parts: ${JSON.stringify(text)}`,
      );
    };
    for (const text of runs) same(text);
    fc.assert(fc.property(texts, same), { numRuns: 25 });
  });
}

test('the same holds for the tokenizers without a file', async () => {
  for (const name of ['bytes', 'cl100k_base']) {
    const tokenizer = await loadTokenizer(name);
    for (const text of [...runs, ' naïve 🎉 words 123'.repeat(9000)]) {
      const expected = [...tokenizer.encode(text)];
      assert.equal(joined(tokenizer.encodePieces(cut(text, 7))), expected);
      assert.equal(joined(tokenizer.encodeParts(cut(text, 997))), expected);
    }
  }
});

test('parts get the tokens they have in the whole, one that reaches over a boundary goes to the later', () => {
  const tokenizer = load('parts', llamaLike());
  const text = (ids: Int32Array): string => tokenizer.decode(ids);
  const parts = tokenizer.encodeParts(['The dog', ' ran.', '\nThe', ' dog']);
  assert.equal(parts.map(text), ['The dog', 'ran.', '\nThe', 'dog']);
  assert.equal(parts[3]?.length, 1, '▁dog, without another space before it');
  const over = tokenizer.encodeParts(['the d', 'og']);
  assert.equal(
    over.map(({ length }) => length),
    [1, 1],
    '▁dog is in the second part',
  );
});

test('documents are encoded whole however they come: no stray space at cuts', async () => {
  const tokenizer: Tokenizer = await loadTokenizer(writeFiles(join(directory, 'corpus'), llamaLike()));
  const text = 'the little dog ran\n'.repeat(9000);
  const pieces = cut(text, 65_536).map((piece) => ({ text: piece, endsDocument: false }));
  const store = tokenize(
    [...pieces, { text: '', endsDocument: true }, { text: 'a dog', endsDocument: true }],
    tokenizer,
  );
  const ids = new Int32Array(store.length);
  store.read(0, ids);
  const expected = [...tokenizer.encode(text), 2, ...tokenizer.encode('a dog'), 2];
  assert.equal([...ids], expected);
});

test('many documents give the ids that each alone gives, whatever the number of processes that encode them', () => {
  const random = new Random(4);
  const words = ['the', 'little', 'dog', 'in', 'sing', ',', 'a', '\u{1F433}', 'log'];
  const documents = Array.from({ length: 40 }, (_, i) =>
    i === 7 ? '' : Array.from({ length: random.below(60) }, () => random.pick(words)).join(' '),
  );
  const tokenizer = load('many', byteLevel());
  const whole = documents.map((text) => [...tokenizer.encode(text)]);
  const split = documents.map((text) => text.match(/[^]{1,13}/g) ?? []);
  const found: number[][] = [[]];
  for (const ids of tokenizer.encodeDocuments(split)) {
    if (ids === null) found.push([]);
    else found.at(-1)?.push(...ids);
  }
  assert.equal(found.slice(0, -1), whole);
  // What was begun and is not asked for leaves later answers as they are.
  for (const ids of tokenizer.encodeDocuments(split)) if (ids !== null) break;
  assert.equal([...tokenizer.encode(documents[1] ?? '')], whole[1]);
  const pieces = documents.map((text, i) => ({ text, endsDocument: i !== 39 }));
  const store = tokenize(pieces, tokenizer);
  const end = tokenizer.endOfText;
  const ids = new Int32Array(store.length);
  store.read(0, ids);
  assert.equal(
    [...ids],
    whole.flatMap((own, i) => (i === 39 || end === null ? own : [...own, end])),
  );
});

test.run();
