import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sampledChunks, sumOfChunks } from '../../src/profiling/sampled-prefill.js';

const test = suite('sampled prefill');

test('the first and the last chunk are sampled, and each once', () => {
  assert.equal(sampledChunks(128, 5), [0, 32, 64, 95, 127]);
  assert.equal(sampledChunks(3, 6), [0, 1, 2]);
  assert.equal(sampledChunks(1, 2), [0]);
});

test('chunks whose time grows linearly sum up exactly, whichever are sampled', () => {
  const seconds = (index: number): number => 0.25 + 0.5 * index;
  const exact = Array.from({ length: 128 }, (_, index) => seconds(index)).reduce((a, b) => a + b, 0);
  for (const samples of [2, 5, 128]) {
    const timed = sampledChunks(128, samples).map((index) => [index, seconds(index)] as const);
    assert.is(sumOfChunks(timed), exact);
  }
  assert.is(sumOfChunks([[0, 0.25]]), 0.25);
});

test('every chunk sampled is the plain sum, however times grow', () => {
  assert.is(sumOfChunks([1, 4, 9, 16].map((seconds, index) => [index, seconds] as const)), 30);
});

test.run();
