import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  estimateDifference,
  estimateMacro,
  wilsonInterval,
} from '../../../src/evaluation/scoring/statistics.js';
import { estimateMean } from '../../../src/sweep/statistics.js';

const test = suite('evaluation/statistics');

const near = (actual: number | null, expected: number, tolerance = 1e-9): void => {
  assert.ok(actual !== null && Math.abs(actual - expected) <= tolerance, `${actual} is not ${expected}`);
};

test("Wilson's interval gives the published values", () => {
  // Newcombe 1998, Stat. Med. 17, 857, table I, method 3.
  const { low, high } = wilsonInterval(81, 263);
  near(low, 0.2553, 5e-5);
  near(high, 0.3662, 5e-5);
  near(wilsonInterval(15, 148).low, 0.0624, 5e-5);
  near(wilsonInterval(0, 20).high, 0.1611, 5e-5);
  near(wilsonInterval(1, 29).low, 0.0061, 5e-5);
});

test("Wilson's interval ends in 0 and 1 exactly and is everything without trials", () => {
  assert.is(wilsonInterval(0, 10).low, 0);
  assert.is(wilsonInterval(10, 10).high, 1);
  assert.equal(wilsonInterval(0, 0), { low: 0, high: 1 });
});

test('means and their standard errors', () => {
  const { mean, standardError } = estimateMean([1, 0, 0, 1, 1]);
  near(mean, 0.6);
  near(standardError, Math.sqrt((0.6 * 0.4) / 4));
  assert.is(estimateMean([1]).standardError, null);
  const macro = estimateMacro([
    { mean: 0.2, standardError: 0.03 },
    { mean: 0.6, standardError: 0.04 },
  ]);
  near(macro.mean, 0.4);
  near(macro.standardError, 0.025);
});

test('paired differences are more certain than the difference of means', () => {
  const baseline = [1, 0, 1, 0, 1, 0, 1, 1];
  const better = [1, 0, 1, 1, 1, 0, 1, 1];
  const { mean, standardError } = estimateDifference(better, baseline);
  near(mean, 1 / 8);
  near(standardError, 1 / 8);
  assert.ok((standardError ?? 1) < (estimateMean(baseline).standardError ?? 0));
  assert.throws(() => estimateDifference([1], [1, 2]), /equally many/);
});

test.run();
