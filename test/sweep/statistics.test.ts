import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { greatest, growthExponent, least, median, summarize } from '../../src/sweep/statistics.js';

const test = suite('statistics');

test('the median is the middle, or the mean of the two in the middle', () => {
  assert.is(median([5, 1, 3]), 3);
  assert.is(median([4, 1, 3, 2]), 2.5);
  assert.is(median([7]), 7);
});

test('a summary uses the sample deviation, which one measurement does not have', () => {
  assert.equal(summarize([2, 4, 4, 4, 5, 5, 7, 9]), {
    median: 4.5,
    mean: 5,
    deviation: Math.sqrt(32 / 7),
    min: 2,
    max: 9,
  });
  assert.is(summarize([3]).deviation, null);
});

test('the growth exponent tells linear from quadratic', () => {
  const at = (power: number) => [1, 4, 64].map((x) => [x, 3 * x ** power] as const);
  assert.ok(Math.abs((growthExponent(at(1)) ?? 0) - 1) < 1e-12);
  assert.ok(Math.abs((growthExponent(at(2)) ?? 0) - 2) < 1e-12);
  assert.is(growthExponent([[1, 2]]), null);
});

test('any number of measurements can be summed up', () => {
  const samples = Array.from({ length: 300_000 }, (_, index) => index);
  const { min, max, median: middle } = summarize(samples);
  assert.equal([min, max, middle], [0, 299_999, 149_999.5]);
  assert.equal([least([]), greatest([])], [Infinity, -Infinity]);
});

test.run();
