/** The comparison that tests on a GPU rest on: what it finds, and what it lets pass. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ROW_FACTOR, TOLERANCE, relativeError, worstRowError } from './relative-error.js';
import { Inputs } from './kernels/contract.js';

const test = suite('engines: relative errors');
const [ROWS, WIDTH] = [20_000, 128];
const expected = new Inputs(1).normal([ROWS, WIDTH]).values;
/** The expected values with changes. */
const changed = (change: (values: Float32Array) => void): Float32Array => {
  const values = Float32Array.from(expected);
  change(values);
  return values;
};

test('a row of zeros among many is found by its own error alone', () => {
  const actual = changed((values) => values.fill(0, 7 * WIDTH, 8 * WIDTH));
  assert.ok(relativeError(actual, expected) <= TOLERANCE.bfloat16);
  assert.is(Math.round(worstRowError(actual, expected, WIDTH) * 1e6), 1e6);
});

test('a small row of zeros is found', () => {
  const shrunk = changed((values) => {
    for (let i = 0; i < WIDTH; i++) values[i] = (values[i] ?? 0) / 20;
  });
  const actual = Float32Array.from(shrunk).fill(0, 0, WIDTH);
  assert.ok(worstRowError(actual, shrunk, WIDTH) > ROW_FACTOR * TOLERANCE.bfloat16);
});

test('rounding passes, also of rows that are almost nothing', () => {
  const almost = changed((values) => values.fill(1e-4, 0, WIDTH));
  const rounded = almost.map((value, i) => value * (1 + (i % 2 ? 1 : -1) * 2 ** -8) + 1e-3);
  assert.ok(relativeError(rounded, almost) <= TOLERANCE.bfloat16);
  assert.ok(worstRowError(rounded, almost, WIDTH) <= ROW_FACTOR * TOLERANCE.bfloat16);
});

test('what is not a number is off, infinities agree with themselves', () => {
  const poisoned = changed((values) => values.fill(NaN, 5, 6));
  assert.ok(Number.isNaN(relativeError(poisoned, expected)));
  assert.ok(Number.isNaN(worstRowError(poisoned, expected, WIDTH)));
  assert.is(relativeError([Infinity, 1], [Infinity, 1]), 0);
  assert.is(worstRowError([Infinity, 1], [Infinity, 1], 1), 0);
  assert.not.ok(relativeError([1, 1], [Infinity, 1]) <= 1);
  assert.not.ok(worstRowError([1, 1], [Infinity, 1], 1) <= 1);
  assert.ok(Number.isNaN(relativeError([1], [1, 1])));
});

test.run();
