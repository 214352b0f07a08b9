/** The short form of `mutations.ts`: damaged results are read, or refused with one line. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { tryMutations } from './mutations.js';

const test = suite('damaged results');

test('whatever the files of a table hold, there is no other error than one line', () => {
  const { faults, read, refused } = tryMutations(200, 1);
  assert.equal(faults, []);
  assert.ok(read > 0 && refused > 0);
});

test.run();
