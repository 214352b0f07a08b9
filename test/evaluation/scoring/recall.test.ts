import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { recallHits, recallLosses } from '../../../src/evaluation/scoring/recall.js';
import { Random } from '../../../src/random.js';

const test = suite('evaluation/recall');

/** Has the pair that ends at `i` ended anywhere before? Looks at every earlier place. */
function bruteForce(tokens: readonly number[], i: number): number {
  for (let j = 1; j < i; j++) {
    if (tokens[j] === tokens[i] && tokens[j - 1] === tokens[i - 1]) return 1;
  }
  return 0;
}

test('a token that completes a bigram shown before is a hit, as counted by brute force', () => {
  for (const vocabulary of [2, 5, 40, 100_000]) {
    const random = new Random(vocabulary);
    const tokens = Array.from({ length: 300 }, () => random.below(vocabulary));
    assert.equal(
      [...recallHits(tokens)],
      tokens.map((_, i) => (i === 0 ? 0 : bruteForce(tokens, i))),
    );
  }
  assert.equal([...recallHits([7, 7, 7, 7])], [0, 0, 1, 1], 'overlapping pairs count');
  assert.equal([...recallHits([])], []);
});

test('losses are divided without rest', () => {
  const tokens = [1, 2, 1, 2, 3, 1, 2];
  const losses = [1, 2, 4, 8, 16, 32];
  assert.equal(recallLosses(tokens, losses), {
    hitTokens: 2,
    hitNats: 4 + 32,
    firstTokens: 4,
    firstNats: 1 + 2 + 8 + 16,
  });
  assert.throws(() => recallLosses(tokens, [1]), /7 tokens have 6 losses, found 1/);
});

test.run();
