import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UsageError } from '../../src/errors.js';
import { formatTokenCount } from '../../src/results/display.js';
import { parseTokenCount, parseTokenCounts } from '../../src/cli/sizes.js';

const test = suite('token counts');

test('k and m are binary, in either case', () => {
  assert.equal(
    ['1', '256', '4k', '64K', '1m', '1.5k'].map(parseTokenCount),
    [1, 256, 4096, 65536, 1048576, 1536],
  );
  assert.equal(parseTokenCounts('4k,256,4096'), [4096, 256]);
});

test('anything else is refused in one line', () => {
  for (const text of ['12q', '0', '-4', '', '1.0001k', '1e3', '4 k', '4k,', 'k', '9999999999999m']) {
    assert.throws(
      () => parseTokenCounts(text),
      (error: Error) => error instanceof UsageError && /is not a number of tokens/.test(error.message),
      text,
    );
  }
});

test('formatting is the inverse', () => {
  for (const text of ['1', '256', '1000', '4k', '1536k', '1m', '4m']) {
    assert.is(formatTokenCount(parseTokenCount(text)), text);
  }
});

test.run();
