import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkVocabulary, loadTokenizer } from '../../../src/data/tokenizer.js';
import { HuggingFaceTokenizer } from '../../../src/data/tokenizers/hugging-face.js';
import { LibraryProcess } from '../../../src/data/tokenizers/library/library-process.js';
import { LibraryTokenizer } from '../../../src/data/tokenizers/library/library.js';
import { Vocabulary } from '../../../src/data/tokenizers/vocabulary.js';
import { rejects } from '../../checkpoint/scratch.js';
import type { Description } from './files.js';
import { addedToken, byteLevel, llamaLike, writeFiles } from './files.js';

const test = suite('data/tokenizers/library');
const directory = mkdtempSync(join(tmpdir(), 'yoco-library-'));
test.after(() => {
  rmSync(directory, { recursive: true });
});

let count = 0;
const write = (description: Description): string => writeFiles(join(directory, String(count++)), description);

async function refusal(description: Description): Promise<string> {
  try {
    await loadTokenizer(write(description));
  } catch (error) {
    return (error as Error).message;
  }
  return 'no error';
}

const model = byteLevel().model as Description;
const vocab = model.vocab as Record<string, number>;

test('ids that are none, huge or far apart, and random ids are refused', async () => {
  const withId = (id: unknown): Description => byteLevel({ model: { ...model, vocab: { ...vocab, e: id } } });
  assert.match(await refusal(withId(-100_000_000)), /token "e" has id -100000000/);
  assert.match(await refusal(withId(1.5)), /token "e" has id 1\.5/);
  assert.match(await refusal(withId(437_000_000)), /tokens have ids up to 437000000/);
  assert.match(await refusal(byteLevel({ model: { ...model, dropout: 0.1 } })), /dropout 0\.1/);
  assert.match(
    await refusal(byteLevel({ added_tokens: [addedToken(400, '<bos>')] })),
    /added token "<bos>" has id 400 in the file but \d+ in the vocabulary/,
  );
});

test('more tokens, or a larger file, than any vocabulary has are refused before they are read', async () => {
  const many = { model: { type: 'Unigram', vocab: Array<unknown>(2 ** 21 + 1) } };
  assert.throws(
    () => Vocabulary.of('many.json', many),
    /many\.json: refused: its vocabulary has 2097153 tokens/,
  );
  const file = join(directory, 'large.json');
  writeFileSync(file, '{');
  truncateSync(file, 2 ** 27 + 1);
  await rejects(loadTokenizer(file), /large\.json: refused: it has 134217729 bytes/);
});

test('what the library does not know is refused with its reason', async () => {
  assert.match(await refusal(byteLevel({ model: { ...model, fuse_unk: 0 } })), /expected a boolean/);
  assert.match(
    await refusal(byteLevel({ pre_tokenizer: { type: 'Cheese' } })),
    /not a tokenizer this program can use/,
  );
  assert.match(
    await refusal(byteLevel({ post_processor: { type: 'Cheese' } })),
    /post_processor of type "Cheese"/,
  );
  assert.match(await refusal({ ...byteLevel(), model: null }), /it has no 'model'/);
});

test('an expression that backtracks ends the call, not the program, and the next call works', async () => {
  const split = { type: 'Split', pattern: { Regex: '(x+x+)+y' }, behavior: 'Isolated', invert: false };
  const tokenizer = await loadTokenizer(write(byteLevel({ pre_tokenizer: split })));
  assert.throws(() => tokenizer.encode('x'.repeat(200)), /encoding fails \(.*retry-limit/);
  assert.is(tokenizer.encode('xx').length, 2);
});

test('a call that takes too long is ended', () => {
  const json = JSON.stringify(llamaLike({ post_processor: null }));
  const tokenizer = new LibraryTokenizer('slow.json', json, []);
  const impatient = new LibraryTokenizer('slow.json', json, [], -4_999_990);
  assert.throws(
    () => impatient.encode(['a'.repeat(5_000_000)]),
    /slow\.json: encoding fails \(it took more than 0 seconds\)/,
  );
  assert.is(tokenizer.encode(['the dog'])[0]?.length, 2);
});

test('options that change ids are followed: metaspace split, single words, stripped space', async () => {
  const metaspace = (split: boolean): Description =>
    llamaLike({
      normalizer: null,
      pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split },
    });
  const ids = async (description: Description, text: string): Promise<string[]> => {
    const tokenizer = await loadTokenizer(write(description));
    const names = new Map(
      [...Object.entries((description.model as { vocab: Record<string, number> }).vocab)].map(
        ([name, id]) => [id, name],
      ),
    );
    return [...tokenizer.encode(text)].map((id) => names.get(id) ?? String(id));
  };
  assert.equal(await ids(metaspace(true), 'a   dog'), ['▁a', '▁', '▁', '▁dog']);
  assert.equal(await ids(metaspace(false), 'a   dog'), ['▁a', '▁▁', '▁dog']);
  const single = byteLevel({ added_tokens: [addedToken(267, 'dog', { single_word: true })] });
  assert.equal(await ids(single, 'dogs dog'), ['do', 'g', 's', 'Ġ', '267']);
  const left = byteLevel({ added_tokens: [addedToken(267, 'dog', { lstrip: true, rstrip: true })] });
  assert.equal(await ids(left, 'a  dog  a'), ['a', '267', 'a']);
});

test('several texts have the ids that each has alone, in requests of bounded size', async () => {
  const file = write(byteLevel());
  const texts = ['he', '', 'ell'.repeat(40), 'he', 'lo', 'l'.repeat(200), 'e'];
  for (const sizes of [{ window: 130, overlap: 16, largest: 4096 }, undefined]) {
    const tokenizer = HuggingFaceTokenizer.load(file, sizes);
    const expected = texts.map((text) => tokenizer.encode(text));
    assert.equal(tokenizer.encodeAll(texts), expected);
  }
  assert.equal((await loadTokenizer(file)).encodeAll([]), []);
});

test('a model may have rows without tokens, as DeepSeek has 2,385', async () => {
  const tokenizer = await loadTokenizer(write(byteLevel()));
  checkVocabulary(tokenizer, tokenizer.vocabSize + 250);
  const large = { ...tokenizer, name: 'large', vocabSize: 100_015 };
  checkVocabulary(large, 102_400);
  assert.throws(() => {
    checkVocabulary(large, 128_256);
  }, /use the tokenizer the model was trained with/);
});

test('a wake-up without an answer is no answer: the caller waits on', async () => {
  const process = new LibraryProcess();
  // As a thread does that is held up between its answer and its notification.
  const script = `const { workerData } = require('node:worker_threads');
    setInterval(() => Atomics.notify(workerData, 0), 1);`;
  const waker = new Worker(script, { eval: true, workerData: Reflect.get(process, 'signal') as Int32Array });
  try {
    await new Promise((resolve) => waker.once('online', resolve));
    const json = JSON.stringify(byteLevel());
    const request = process.ask({ kind: 'load', tokenizer: 0, json, added: [] });
    assert.equal(process.answer(request, 60_000), { kind: 'loaded' });
  } finally {
    await waker.terminate();
  }
});

test.run();
