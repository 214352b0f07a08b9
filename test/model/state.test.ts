/** What models remember: marks, going back, forks, and bytes by the engine's account. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type LanguageModel, type ModelCache } from '../../src/model/index.js';
import { KeyValuePages } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { close } from '../ops/compare.js';
import { usePlainBackend } from '../plain-backend.js';
import { CASES, ids, randomTokens, testModel } from './cases.js';

const test = suite('model: state');
test.before(usePlainBackend);

/** The logits after a token that the cache takes. */
const next = (model: LanguageModel, cache: ModelCache, token: number): number[] =>
  tf.tidy(() => [...model.decode(tf.tensor1d([token], 'int32'), cache).dataSync()]);

/** The logits after all of `tokens`, from nothing. */
function afresh(model: LanguageModel, tokens: readonly number[]): number[] {
  return tf.tidy(() => {
    const all = model.forward(ids([[...tokens]]));
    return [...tf.slice(all, [0, tokens.length - 1, 0], [1, 1, -1]).dataSync()];
  });
}

const same = (found: readonly number[], expected: readonly number[], name: string): void => {
  tf.tidy(() => {
    close(tf.tensor1d([...found]), Float32Array.from(expected), 1e-5, name);
  });
};

for (const [name, input] of Object.entries(CASES)) {
  test(`${name}: a marked length can be returned to, again and again, and forks stay as they are`, () => {
    const model = testModel(input);
    const before = tf.memory().numTensors;
    const [tokens] = randomTokens(1, 20, 5) as [number[]];
    const cache = model.createCache({ maxTokens: 64 });
    const extend = (from: number, to: number): void => {
      tf.tidy(() => void model.extend(ids([tokens.slice(from, to)]), cache, { logits: 'none' }));
    };
    extend(0, 7);
    cache.mark();
    for (const token of [1, 2, 3]) {
      extend(7, 12);
      const fork = cache.fork();
      cache.rewind(7);
      assert.is(cache.length, 7);
      const found = next(model, cache, token);
      same(found, afresh(model, [...tokens.slice(0, 7), token]), `token ${token}`);
      same(next(model, fork, 4), afresh(model, [...tokens.slice(0, 12), 4]), 'fork');
      fork.dispose();
      cache.rewind(7);
    }
    cache.rewind(0);
    same(next(model, cache, 5), afresh(model, [5]), 'from nothing');
    cache.dispose();
    assert.is(tf.memory().numTensors, before, 'tensors left behind');
    model.dispose();
  });
}

test('a state that is not marked cannot be returned to, and nothing has changed then', () => {
  const model = testModel(CASES['yoco, tied'] ?? {});
  const cache = model.createCache({ maxTokens: 32 });
  const [tokens] = randomTokens(1, 9) as [number[]];
  tf.tidy(() => void model.extend(ids([tokens]), cache, { logits: 'none' }));
  assert.throws(() => {
    cache.rewind(4);
  }, /a cache of 9 tokens cannot return to 4: mark\(\) it/);
  assert.throws(() => {
    cache.rewind(10);
  }, /cannot return to 10/);
  same(next(model, cache, 3), afresh(model, [...tokens, 3]), 'afterwards');
  cache.dispose();
  model.dispose();
});

test('keys and values of a whole context return to any length, across pages that a fork reads', () => {
  const model = testModel(CASES.transformer ?? {});
  const [tokens] = randomTokens(1, 40, 6) as [number[]];
  const big = model.createCache();
  tf.tidy(() => void model.extend(ids([tokens]), big, { logits: 'none' }));
  for (const length of [33, 32, 17, 1]) {
    big.rewind(length);
    same(next(model, big, 2), afresh(model, [...tokens.slice(0, length), 2]), `back to ${length}`);
    big.rewind(length);
  }
  big.dispose();
  model.dispose();
});

test('rows that a fork reads are not written over after a return into their page', () => {
  const pages = new KeyValuePages({ batch: 1, kvHeads: 1, headDim: 2, pageSize: 4 });
  const rows = (value: number, count: number): tf.Tensor4D => tf.fill([1, count, 1, 2], value);
  const append = (value: number, count: number): void => {
    tf.tidy(() => {
      pages.append(rows(value, count), rows(value, count));
    });
  };
  append(1, 10);
  const fork = pages.fork();
  assert.throws(() => {
    pages.rewind(11);
  }, RangeError);
  pages.rewind(5);
  assert.is(pages.pages.length, 2);
  append(2, 6);
  const held = (of: KeyValuePages): number[] =>
    of.pages.flatMap(({ key }) => [...key.dataSync()].filter((_, i) => i % 2 === 0)).slice(0, of.length);
  assert.equal(
    held(fork),
    Array.from({ length: 10 }, () => 1),
  );
  assert.equal(held(pages), [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
  pages.dispose();
  fork.dispose();
});

test('bytes are those that the engine says its tensors take', () => {
  const model = testModel(CASES['gated retention'] ?? {});
  const cache = model.createCache({ maxTokens: 16 });
  tf.tidy(() => void model.extend(ids(randomTokens(1, 9)), cache, { logits: 'none' }));
  const { keyValue, state } = cache.bytes();
  const backend = tf.backend() as { bytesOf?: (tensor: tf.TensorInfo) => number };
  backend.bytesOf = ({ shape }) => 2 * shape.reduce((all, n) => all * n, 1);
  try {
    assert.equal(cache.bytes(), { keyValue: keyValue / 2, state: state / 2 });
  } finally {
    delete backend.bytesOf;
  }
  cache.dispose();
  model.dispose();
});

test.run();
