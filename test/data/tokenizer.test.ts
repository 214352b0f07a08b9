import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkVocabulary, loadTokenizer } from '../../src/data/tokenizer.js';
import { BpeTrainer } from '../../src/data/tokenizers/bpe-trainer.js';
import { sharedTest } from '../shared.js';

const test = suite('data/tokenizer');

let directory = '';
test.before(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-tokenizer-'));
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

const roundTrips = (tokenizer: {
  encode(text: string): Int32Array;
  decode(ids: Int32Array): string;
}): void => {
  const text = fc.string({ unit: 'grapheme', maxLength: 40 });
  fc.assert(
    fc.property(text, (sample) => tokenizer.decode(tokenizer.encode(sample)) === sample),
    { seed: 1, numRuns: 200 },
  );
};

test('symbols are numbers with spaces between them', async () => {
  const symbols = await loadTokenizer('symbols-128');
  assert.equal([symbols.name, symbols.vocabSize, symbols.endOfText], ['symbols-128', 128, null]);
  assert.equal([...symbols.encode(' 5 127\n0 ')], [5, 127, 0]);
  assert.is(symbols.decode([5, 127, 0]), '5 127 0');
  assert.equal(
    symbols.encodeParts(['5 1', '27 ', '0']).map((ids) => [...ids]),
    [[5], [127], [0]],
  );
  assert.equal(
    [...symbols.encodePieces(['5 1', '2', '7'])].flatMap((ids) => [...ids]),
    [5, 127],
  );
  assert.throws(() => symbols.encode('5 128'), /'128' is no symbol: symbols-128 has the numbers 0 to 127/);
  for (const name of ['symbols-100', 'symbols-0', 'symbols-']) {
    const message = await loadTokenizer(name).catch((error: unknown) => (error as Error).message);
    assert.match(message as string, /unknown tokenizer .*symbols-N \(N numbered symbols, a multiple of 8\)/);
  }
});

test('bytes are UTF-8, the end of text is 256, and the vocabulary is padded to a multiple of 8', async () => {
  const bytes = await loadTokenizer('bytes');
  assert.equal([...bytes.encode('aé')], [97, 0xc3, 0xa9]);
  assert.is(bytes.endOfText, 256);
  assert.is(bytes.vocabSize, 264);
  assert.is(bytes.decode([104, 105, 256, 260]), 'hi');
  roundTrips(bytes);
});

test('cl100k_base has the numbering of the official code: tiktoken ids shifted by 4, 100,288 in all', async () => {
  const cl100k = await loadTokenizer('cl100k_base');
  // tiktoken gives [15339, 1917] for this text and 100257 for its end-of-text token.
  assert.equal([...cl100k.encode('hello world')], [15343, 1921]);
  assert.is(cl100k.vocabSize, 100288);
  assert.is(cl100k.beginOfText, 0);
  assert.is(cl100k.endOfText, 2);
  assert.is(cl100k.decode([0, 15343, 1921, 2, 100261, 100287]), 'hello world');
  assert.is.not(cl100k.encode('<|endoftext|>').length, 1);
  roundTrips(cl100k);
});

test('a trained tokenizer is read by the library, gives back every text and compresses its corpus', async () => {
  const trainer = new BpeTrainer();
  const words = ['whale', 'ship', 'ocean', 'captain', 'harpoon', 'voyage', 'sailor', 'mast', 'crew', 'storm'];
  const text = Array.from({ length: 4000 }, (_, i) => words[(i * i + (i >> 3)) % words.length]).join(' ');
  trainer.add(text);
  trainer.add(Array.from({ length: 400 }, (_, i) => String(i % 200)).join(' '));
  trainer.add(
    Array.from({ length: 400 }, (_, i) => `w${String.fromCharCode(97 + (i % 20), 97 + (i % 19))}x`).join(' '),
  );
  const file = join(directory, 'tokenizer.json');
  writeFileSync(file, JSON.stringify(trainer.train(512)));
  const tokenizer = await loadTokenizer(file);
  assert.is(tokenizer.vocabSize, 512);
  assert.is(tokenizer.endOfText, 0);
  assert.is(tokenizer.beginOfText, null);
  assert.is(tokenizer.encode(' whale captain').length, 2);
  assert.is(tokenizer.encode('').length, 0);
  assert.is(tokenizer.decode([0]), '');
  roundTrips(tokenizer);
});

test('training merges the most frequent pair first and breaks ties by the smaller ids', () => {
  const trainer = new BpeTrainer();
  // Every pair of letters occurs in enough distinct words that 512 tokens can be learnt.
  for (let i = 0; i < 26; i++) {
    for (let j = 0; j < 26; j++) trainer.add(` ${String.fromCharCode(97 + i, 97 + j)} `.repeat(3));
  }
  trainer.add('zq\n'.repeat(500));
  const { model } = trainer.train(512) as { model: { merges: [string, string][] } };
  assert.equal(model.merges[0], ['z', 'q']);
  const later = model.merges.slice(1).map((pair) => pair.join(''));
  assert.equal(later.slice(0, 3), ['Ġa', 'Ġb', 'Ġc'], 'ties go to the smaller ids');
});

test('a corpus too small and a size out of range are told apart in one line', () => {
  const trainer = new BpeTrainer();
  trainer.add('one two three');
  assert.throws(() => trainer.train(512), /too few repeated words .* smaller size or more text/);
  assert.throws(() => trainer.train(100), /from 512 to 32768/);
});

test('unknown names, broken files and other vocabularies are clear errors', async () => {
  const message = async (spec: string): Promise<string> => {
    try {
      await loadTokenizer(spec);
    } catch (error) {
      return (error as Error).message;
    }
    return '';
  };
  assert.match(
    await message('o200k'),
    /unknown tokenizer 'o200k': use bytes, cl100k_base, symbols-N .*, the path of a tokenizer\.json/,
  );
  const broken = join(directory, 'broken.json');
  writeFileSync(broken, '{"model":');
  assert.match(await message(broken), /broken\.json: not valid JSON/);
  writeFileSync(broken, '{"version":"1.0"}');
  assert.match(await message(broken), /not a tokenizer this program can use/);
  const bytes = await loadTokenizer('bytes');
  checkVocabulary(bytes, 264);
  checkVocabulary(bytes, 512 - 8);
  assert.throws(() => {
    checkVocabulary(bytes, 256);
  }, /264 tokens but the model's vocabulary has 256/);
  assert.throws(() => {
    checkVocabulary(bytes, 2048);
  }, /use the tokenizer the model was trained with/);
});

sharedTest(test, 'data/models/tinystories-656k', 'reads a published tokenizer', async (path) => {
  const tokenizer = await loadTokenizer(path);
  assert.is(tokenizer.vocabSize, 2048);
  assert.is(tokenizer.beginOfText, 1);
  assert.is(tokenizer.endOfText, 2);
  assert.equal([...tokenizer.encode('Once upon a time')], [80, 147, 201, 282, 57]);
  assert.is(tokenizer.decode([1, 80, 147, 201, 282, 57, 2]), 'Once upon a time');
});

test.run();
