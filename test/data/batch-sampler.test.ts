import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BatchSampler, sequentialBatches } from '../../src/data/batch-sampler.js';
import type { TextPiece } from '../../src/data/corpus.js';
import { tokenize, type TokenStore } from '../../src/data/token-store.js';
import { loadTokenizer } from '../../src/data/tokenizer.js';

const test = suite('data/batch-sampler');

const pieces = (...texts: string[]): TextPiece[] => texts.map((text) => ({ text, endsDocument: true }));

/** Tokens 0, 1, 2, …: a window shows where it was cut. */
const counting = (length: number): TokenStore => ({
  length,
  read(start, target) {
    for (let i = 0; i < target.length; i++) target[i] = start + i;
  },
  dispose() {
    // Holds nothing.
  },
});

const readAll = (store: TokenStore): number[] => {
  const target = new Int32Array(store.length);
  store.read(0, target);
  return [...target];
};

test('documents are encoded one after another, each with its end', async () => {
  const bytes = await loadTokenizer('bytes');
  const store = tokenize(pieces('ab', 'c'), bytes);
  assert.equal(readAll(store), [97, 98, 256, 99, 256]);
});

test('long documents in pieces give the same tokens as whole, in memory and on disk', async () => {
  const bytes = await loadTokenizer('bytes');
  const text = 'some words\n'.repeat(2e5);
  const cut: TextPiece[] = [
    { text: text.slice(0, 777777), endsDocument: false },
    { text: text.slice(777777), endsDocument: true },
  ];
  const memory = tokenize(cut, bytes);
  const disk = tokenize(cut, bytes, { tokensInMemory: 1000 });
  const expected = [...bytes.encode(text), 256];
  assert.is(memory.length, expected.length);
  assert.is(disk.length, expected.length);
  const [a, b] = [new Int32Array(5000), new Int32Array(5000)];
  for (const start of [0, 775000, expected.length - 5000]) {
    memory.read(start, a);
    disk.read(start, b);
    assert.equal([...a], expected.slice(start, start + 5000));
    assert.equal(a, b);
  }
  assert.throws(() => {
    disk.read(disk.length - 1, a);
  }, /outside the store/);
  disk.dispose();
});

test('an epoch hands out every window once, cut at the same phase, in random order', () => {
  const sampler = new BatchSampler({ tokens: counting(1000), batch: 1, length: 10, seed: 1 });
  const epoch = (): number[] => {
    const starts = Array.from({ length: sampler.windowsPerEpoch }, () => {
      const window = sampler.next();
      assert.equal(
        [...window],
        Array.from({ length: 11 }, (_, i) => (window[0] ?? NaN) + i),
      );
      return window[0] ?? NaN;
    });
    return starts;
  };
  const first = epoch();
  const sorted = [...first].sort((a, b) => a - b);
  assert.equal(
    sorted,
    sorted.map((_, i) => (sorted[0] ?? NaN) + 10 * i),
  );
  assert.ok((sorted.at(-1) ?? NaN) + 11 <= 1000);
  assert.not.equal(first, sorted);
  assert.not.equal(epoch(), first);
});

test('goes on exactly after a cursor that went through JSON, across epochs', () => {
  const options = { tokens: counting(500), batch: 3, length: 16, seed: 'x' };
  const whole = new BatchSampler(options);
  const batches = Array.from({ length: 40 }, () => [...whole.next()]);
  const stopped = new BatchSampler(options);
  for (let i = 0; i < 17; i++) stopped.next();
  const resumed = new BatchSampler(options);
  resumed.seek(JSON.parse(JSON.stringify(stopped.cursor())) as ReturnType<BatchSampler['cursor']>);
  assert.equal(
    Array.from({ length: 23 }, () => [...resumed.next()]),
    batches.slice(17),
  );
  assert.throws(() => {
    resumed.seek({ epoch: 0, window: 1e6 });
  }, /has changed/);
  assert.throws(() => {
    resumed.seek({ epoch: -1, window: 0 });
  }, /invalid data cursor/);
});

test('a text shorter than one window is an error, one of exactly a window is not', () => {
  const make = (length: number): BatchSampler =>
    new BatchSampler({ tokens: counting(length), batch: 2, length: 10, seed: 1 });
  assert.throws(() => make(10), /has 10 tokens but at least 11 are needed/);
  assert.equal([...make(11).next()].slice(0, 11), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

test('sequential batches cover the text from its start, the last one smaller', () => {
  const batches = [...sequentialBatches(counting(101), { batch: 4, length: 10 })];
  assert.equal(
    batches.map(({ rows }) => rows),
    [4, 4, 2],
  );
  assert.is(batches[2]?.tokens[0], 80);
  assert.is(batches[2]?.tokens.at(-1), 100);
  assert.is([...sequentialBatches(counting(101), { batch: 4, length: 10, limit: 5 })].length, 2);
});

test.run();
