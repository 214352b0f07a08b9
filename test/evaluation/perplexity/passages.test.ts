import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { MemoryStore } from '../../../src/data/token-store.js';
import { BytesTokenizer } from '../../../src/data/tokenizers/bytes.js';
import { passageAnswers, passageLosses, passageStarts } from '../../../src/evaluation/perplexity/passages.js';
import { Random } from '../../../src/random.js';
import * as tf from '../../../src/tf.js';
import { CASES, ids, SHAPE, testModel } from '../../model/cases.js';
import { usePlainBackend } from '../../plain-backend.js';

const test = suite('evaluation/perplexity/passages');
test.before(usePlainBackend);

const BEGIN = 12;
const tokenizer = Object.assign(new BytesTokenizer(), { beginOfText: null, endOfText: BEGIN });

function document(length: number): MemoryStore {
  const random = new Random(length);
  return new MemoryStore(Int32Array.from({ length }, () => random.below(6)));
}

const read = (store: MemoryStore, from: number, to: number): number[] => {
  const target = new Int32Array(to - from);
  store.read(from, target);
  return [...target];
};

test('passages are spread over what lies after the longest context', () => {
  const options = { contexts: [2, 10], passages: 4, length: 5 };
  assert.equal(passageStarts(14, options), []);
  assert.equal(passageStarts(15, options), [10]);
  assert.equal(passageStarts(95, options), [20, 40, 60, 80]);
});

test('answers are the tokens whose bigram the longest context has shown and the shortest has not', () => {
  const store = document(80);
  const options = { contexts: [3, 20], passages: 1, length: 12 };
  const start = 40;
  const shows = (context: number, at: number): boolean => {
    const before = read(store, start - context, at);
    const [left, right] = [before.at(-1), read(store, at, at + 1)[0]];
    return before.slice(0, -1).some((id, i) => id === left && before[i + 1] === right);
  };
  const expected = Array.from({ length: 12 }, (_, i) => Number(shows(20, start + i) && !shows(3, start + i)));
  assert.equal([...passageAnswers(store, start, options)], expected);
  assert.ok(expected.includes(1) && expected.includes(0));
});

for (const name of ['gated retention', 'sliding window', 'transformer']) {
  test(`${name}: losses are those of context and passage read at once`, async () => {
    const model = testModel(CASES[name] ?? {});
    const tokens = document(90);
    const options = { contexts: [1, 7, 30], passages: 3, length: 6 };
    const losses = await passageLosses(model, tokenizer, { tokens, length: 90 }, options);
    assert.equal(
      losses.map(({ context, tokens }) => [context, tokens]),
      [
        [1, 18],
        [7, 18],
        [30, 18],
      ],
    );
    for (const { context, nats, answerNats, answerTokens } of losses) {
      let [all, answers, count] = [0, 0, 0];
      for (const start of passageStarts(90, options)) {
        const flags = passageAnswers(tokens, start, options);
        const text = [BEGIN, ...read(tokens, start - context, start + 6)];
        const own = tf.tidy(() => model.loss(ids([text.slice(0, -1)]), ids([text.slice(1)])).dataSync());
        own.slice(-6).forEach((loss, i) => {
          all += loss;
          answers += flags[i] === 1 ? loss : 0;
          count += flags[i] ?? 0;
        });
      }
      assert.ok(Math.abs(nats - all) < 1e-3, `${context}: ${nats} ${all}`);
      assert.ok(Math.abs(answerNats - answers) < 1e-3);
      assert.is(answerTokens, count);
    }
    assert.is(model.config.vocabSize, SHAPE.vocabSize);
    model.dispose();
  });
}

test.run();
