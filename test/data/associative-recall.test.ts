import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { repeatedBigrams } from '../../src/data/associative-recall.js';

const test = suite('data: associative recall');

/** As the definition reads: looks at all earlier bigrams. */
function bruteForce(ids: readonly number[]): number[] {
  return ids.map((id, i) => {
    for (let j = 1; j < i; j++) if (ids[j - 1] === ids[i - 1] && ids[j] === id) return 1;
    return 0;
  });
}

test('a bigram counts from its second time on', () => {
  assert.equal([...repeatedBigrams([1, 2, 1, 2, 2, 2, 2])], [0, 0, 0, 1, 0, 1, 1]);
  assert.equal([...repeatedBigrams([])], []);
  assert.equal([...repeatedBigrams([7])], [0]);
});

test('the same as looking at all pairs, with large ids too', () => {
  const id = fc.oneof(fc.integer({ min: 0, max: 3 }), fc.constantFrom(100_287, 2 ** 25));
  fc.assert(
    fc.property(fc.array(id, { maxLength: 60 }), (ids) => {
      assert.equal([...repeatedBigrams(ids)], bruteForce(ids));
    }),
  );
});

test.run();
