/** Prompts are read in pieces as long as the model says: ranks that divide sequences read longer ones. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { consume, consumeForLast } from '../../../src/evaluation/scoring/consume.js';
import * as tf from '../../../src/tf.js';
import { usePlainBackend } from '../../plain-backend.js';
import { StubModel } from '../stub-model.js';

const test = suite('evaluation: consuming prompts');
test.before(usePlainBackend);

class TenAtOnce extends StubModel {
  override get chunkTokens(): number {
    return 10;
  }
}

test('as many tokens at a time as the model takes', () => {
  const model = new TenAtOnce(16);
  const cache = model.createCache();
  const ids = Int32Array.from({ length: 25 }, (_, i) => i % 16);
  const done: number[] = [];
  const note = (tokens: number): void => {
    done.push(tokens);
  };
  consume(model, cache, ids, note);
  assert.equal(done, [10, 20, 25]);
  const logits = consumeForLast(model, cache, ids.subarray(0, 20), note);
  assert.equal(done, [10, 20, 25, 10]);
  assert.is(cache.length, 45);
  tf.dispose(logits);
  cache.dispose();
});

test.run();
