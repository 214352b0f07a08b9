import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sampledChunks, sumOfChunks } from '../../src/profiling/sampled-prefill.js';

const test = suite('sampled prefill');

test('the last chunk is sampled, and of the others the first, the last and some between', () => {
  assert.equal(sampledChunks(129, 5), [0, 32, 64, 95, 127, 128]);
  assert.equal(sampledChunks(64, 2), [0, 62, 63]);
  assert.equal(sampledChunks(3, 6), [0, 1, 2]);
  assert.equal(sampledChunks(2, 2), [0, 1]);
  assert.equal(sampledChunks(1, 2), [0]);
});

const total = (count: number, seconds: (index: number) => number): number =>
  Array.from({ length: count }, (_, index) => seconds(index)).reduce((a, b) => a + b, 0);

test('chunks whose time grows linearly sum up exactly, whichever are sampled', () => {
  const seconds = (index: number): number => 0.25 + 0.5 * index;
  for (const samples of [2, 5, 128]) {
    const timed = sampledChunks(128, samples).map((index) => [index, seconds(index)] as const);
    assert.is(sumOfChunks(timed), total(128, seconds));
  }
  assert.is(sumOfChunks([[0, 0.25]]), 0.25);
});

test('what the last chunk takes beyond the others counts once', () => {
  // As where only the last chunk runs the cross-decoder, over all keys of many sequences.
  const seconds = (index: number): number => (index === 511 ? 16 : 0.5);
  const timed = sampledChunks(512, 4).map((index) => [index, seconds(index)] as const);
  assert.is(sumOfChunks(timed), total(512, seconds));
});

test('every chunk sampled is the plain sum, however times grow', () => {
  assert.is(sumOfChunks([1, 4, 9, 16].map((seconds, index) => [index, seconds] as const)), 30);
});

test.run();
