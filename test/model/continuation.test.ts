/** Greedy continuation, by engines that wait for each step and by those that queue it. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { likeliestAfter, likeliestTokens } from '../../src/model/continuation.js';
import { registerRecorder } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { StubModel } from '../evaluation/stub-model.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('model/continuation');
test.before(usePlainBackend);
test.after.each(() => {
  registerRecorder(tf.getBackend(), null);
});

const queueing = (): void => {
  registerRecorder(tf.getBackend(), { isQueued: true, record: () => null });
};
const counting = (): StubModel => new StubModel(10, (context) => ((context.at(-1) ?? 0) + 1) % 10);

/** Steps that the model had computed when each token was given, and the tokens. */
async function given(limit: number, lastUse: boolean, stop = Infinity): Promise<[number[], number[]]> {
  const model = counting();
  const cache = model.createCache();
  const [tokens, steps]: [number[], number[]] = [[], []];
  for await (const [token = -1] of likeliestAfter(model, cache, Int32Array.of(4), { limit, lastUse })) {
    tokens.push(token);
    steps.push(model.consumed);
    if (tokens.length === stop) break;
  }
  cache.dispose();
  return [tokens, steps];
}

test('an engine that queues its work gets the next step before a token is read, if the cache is not used again', async () => {
  const before = tf.memory().numTensors;
  queueing();
  assert.equal(await given(4, true), [[5, 6, 7, 8], [2, 3, 4, 4]]); // prettier-ignore
  assert.equal(await given(4, false), [[5, 6, 7, 8], [1, 2, 3, 4]]); // prettier-ignore
  assert.equal(await given(1, true), [[5], [1]], 'there is no step after the last token');
  assert.equal(await given(9, true, 2), [[5, 6], [2, 3]]); // prettier-ignore
  registerRecorder(tf.getBackend(), null);
  assert.equal(await given(4, true), [[5, 6, 7, 8], [1, 2, 3, 4]]); // prettier-ignore
  assert.is(tf.memory().numTensors, before);
});

test('a failed check or step ends the continuation with its error and leaves nothing behind', async () => {
  queueing();
  const before = tf.memory().numTensors;
  const model = counting();
  const logits = (): tf.Tensor2D => tf.oneHot(tf.tensor1d([4], 'int32'), 10) as tf.Tensor2D;
  const all = async (options: Parameters<typeof likeliestTokens>[3]): Promise<unknown> => {
    const cache = model.createCache();
    const found: Int32Array[] = [];
    try {
      for await (const tokens of likeliestTokens(model, cache, tf.tidy(logits), options)) found.push(tokens);
      return found;
    } catch (error) {
      return error;
    } finally {
      cache.dispose();
    }
  };
  let checks = 0;
  const failure = new Error('not finite');
  const check = (): Promise<void> => (++checks === 3 ? Promise.reject(failure) : Promise.resolve());
  assert.is(await all({ limit: 5, lastUse: true, check }), failure);
  const broken = new Error('no memory');
  model.decode = () => {
    throw broken;
  };
  assert.is(await all({ limit: 5, lastUse: true, check: () => Promise.reject(failure) }), broken);
  assert.is(tf.memory().numTensors, before);
});

test.run();
