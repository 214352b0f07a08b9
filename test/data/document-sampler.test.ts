import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BatchSampler } from '../../src/data/batch-sampler.js';
import { documentRanges } from '../../src/data/document-ends.js';
import { DocumentSampler, type DocumentBatch } from '../../src/data/document-sampler.js';
import { MemoryStore } from '../../src/data/token-store.js';
import { BytesTokenizer } from '../../src/data/tokenizers/bytes.js';
import { Random } from '../../src/random.js';
import { refuses } from '../checkpoint/scratch.js';

const test = suite('data/document-sampler');
const END = 999;
const tokenizer = Object.assign(new BytesTokenizer(), { endOfText: END });

/** Document d has the tokens 1000 d, 1000 d + 1, …, so that a token shows where it is from. */
function store(lengths: readonly number[]): MemoryStore {
  return new MemoryStore(
    Int32Array.from(
      lengths.flatMap((length, d) => [...Array.from({ length }, (_, i) => 1000 * (d + 1) + i), END]),
    ),
  );
}

const LENGTHS = [3, 17, 64, 1, 130, 0, 40, 5, 33];

function sampler(lengths: readonly number[], options: object = {}): DocumentSampler {
  const tokens = store(lengths);
  const ranges = documentRanges(tokens, tokenizer);
  return new DocumentSampler({ tokens, ranges, begin: END, batch: 2, length: 32, seed: 5, ...options });
}

/** The rows without padding: tokens and targets. */
function rowsOf({ rows, width, tokens, targets, counts }: DocumentBatch): [number[], number[]][] {
  return Array.from({ length: rows }, (_, row) => {
    const [from, to] = [row * width, row * width + (counts[row] ?? 0)];
    assert.ok([...tokens.subarray(to, (row + 1) * width)].every((id) => id === END));
    return [[...tokens.subarray(from, to)], [...targets.subarray(from, to)]];
  });
}

function epoch(from: DocumentSampler): DocumentBatch[] {
  const batches: DocumentBatch[] = [];
  while (from.cursor().epoch === 0) batches.push(from.next());
  return batches.slice(0, -1);
}

test('documents lie between ends; a text that is cut off has one more', () => {
  assert.equal(documentRanges(new MemoryStore(Int32Array.of(7, 8, END, END, 9)), tokenizer), [
    { start: 0, end: 3 },
  ]);
  assert.equal(documentRanges(new MemoryStore(Int32Array.of(7, END, 8, 9)), tokenizer), [
    { start: 0, end: 2 },
    { start: 2, end: 4 },
  ]);
  const without = Object.assign(new BytesTokenizer(), { endOfText: null });
  refuses(
    () => documentRanges(store([3]), without),
    /has no end-of-text token, so that documents cannot be told/,
  );
});

test('an epoch has every token of every document as a target, at least once, and of no other document before it', () => {
  const seen = new Map<number, number>();
  for (const batch of epoch(sampler(LENGTHS))) {
    assert.ok(batch.rows * batch.width >= 2 * 32 && batch.rows % 2 === 0);
    for (const [tokens, targets] of rowsOf(batch)) {
      assert.equal(tokens.slice(1), targets.slice(0, -1));
      const documents = new Set(
        [...tokens.slice(1), ...targets].filter((id) => id !== END).map((id) => Math.floor(id / 1000)),
      );
      assert.is(documents.size, 1);
      // The first token follows the begin token, or its predecessor in the document.
      const [first = 0, next = 0] = [tokens[0], targets[0]];
      assert.ok(first === END ? next % 1000 === 0 : next === first + 1 || next === END);
      for (const id of targets) seen.set(id, (seen.get(id) ?? 0) + 1);
    }
  }
  const expected = LENGTHS.flatMap((length, d) => Array.from({ length }, (_, i) => 1000 * (d + 1) + i));
  assert.equal(
    [...seen.keys()].filter((id) => id !== END).sort((a, b) => a - b),
    expected,
  );
  // Beside what fills the last batch, at most a row, nothing comes twice.
  const repeated = [...seen].filter(([id, count]) => id !== END && count > 1).length;
  assert.ok(repeated <= 32, String(repeated));
});

test('short parts are in narrow rows, of which there are more', () => {
  const batches = epoch(
    sampler(
      Array.from({ length: 40 }, (_, i) => (i % 5 === 0 ? 60 : 5)),
      { length: 64 },
    ),
  );
  const shapes = new Set(batches.map(({ rows, width }) => `${rows} x ${width}`));
  assert.equal([...shapes].sort(), ['2 x 64', '8 x 16']);
});

test('long documents come as often as asked for', () => {
  const count = (longDocuments: number | 'only'): number[] => {
    const targets = epoch(sampler(LENGTHS, { longDocuments })).flatMap((batch) =>
      rowsOf(batch).flatMap(([, own]) => own),
    );
    return [1000, 3020, 5100].map((id) => targets.filter((target) => target === id).length);
  };
  const [short = 0, long = 0, longest = 0] = count(4);
  assert.ok(short <= 2 && long >= 4 && longest >= 4, String([short, long, longest]));
  assert.is(count('only')[0], 0);
  refuses(() => sampler([3, 5], { longDocuments: 2 }), /no document has 32 tokens: use longer documents/);
  refuses(() => sampler([0, 0]), /has no documents/);
});

test('it resumes exactly, in any epoch', () => {
  const whole = sampler(LENGTHS);
  for (let i = 0; i < 13; i++) whole.next();
  const cursor = whole.cursor();
  assert.ok(cursor.epoch > 0);
  const resumed = sampler(LENGTHS);
  resumed.seek(cursor);
  for (let i = 0; i < 13; i++) assert.equal(resumed.next(), whole.next());
  refuses(() => {
    resumed.seek({ epoch: 0, window: 1e6 });
  }, /at batch 1000000 of/);
});

test('windows of long documents lie in one document', () => {
  const random = new Random(3);
  const lengths = Array.from({ length: 30 }, () => 1 + random.below(90));
  const tokens = store(lengths);
  const ranges = documentRanges(tokens, tokenizer);
  const options = { tokens, batch: 1, length: 32, seed: 1 };
  const only = new BatchSampler({ ...options, longDocuments: { ranges, times: 'only' } });
  for (let i = 0; i < 3 * only.windowsPerEpoch; i++) {
    const window = [...only.next()];
    assert.is(window.indexOf(END) % 32, window.includes(END) ? 0 : -1, window.join(' '));
  }
  const long = lengths.reduce((sum, length) => sum + Math.floor(length / 32), 0);
  assert.is(only.windowsPerEpoch, long);
  const usual = new BatchSampler(options).windowsPerEpoch;
  const thrice = new BatchSampler({ ...options, longDocuments: { ranges, times: 3 } });
  assert.is(thrice.windowsPerEpoch, usual + 2 * long);
});

test.run();
