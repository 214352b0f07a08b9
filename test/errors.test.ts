import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RunError, UsageError, YocoError } from '../src/errors.js';

const test = suite('errors');

test('usage errors exit with 2, failures with 1', () => {
  assert.is(new UsageError('odd context').exitCode, 2);
  assert.is(new RunError('disk full').exitCode, 1);
  assert.ok(new UsageError('odd context') instanceof YocoError);
  assert.is(new UsageError('odd context').name, 'UsageError');
});

test.run();
