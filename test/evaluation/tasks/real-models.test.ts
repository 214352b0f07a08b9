/** The scorer on real models of both architectures: every route must give what `forward` gives. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Random } from '../../../src/random.js';
import { scoreRequests, type ScoreRequest } from '../../../src/evaluation/scoring/likelihood.js';
import { SharedPrefix } from '../../../src/evaluation/scoring/shared-prefix.js';
import { createConfig, createModel, type ConfigInput, type LanguageModel } from '../../../src/model/index.js';
import * as tf from '../../../src/tf.js';
import { usePlainBackend } from '../../plain-backend.js';

const test = suite('evaluation/real-models');
test.before(usePlainBackend);

const VOCABULARY = 24;
const size = { dim: 16, layers: 4, hiddenDim: 24, heads: 2, kvHeads: 1, vocabSize: VOCABULARY };
const configs: Readonly<Record<string, ConfigInput>> = {
  'gated retention': { ...size, architecture: 'yoco' },
  'sliding window': { ...size, architecture: 'yoco', slidingWindow: 5 },
  transformer: { ...size, architecture: 'transformer' },
};

function byForward(model: LanguageModel, { tokens, start }: ScoreRequest): number {
  return tf.tidy(() => {
    const logits = model.forward(tf.tensor2d(tokens, [1, tokens.length], 'int32'));
    const values = tf.logSoftmax(logits).dataSync();
    let sum = 0;
    for (let at = start; at < tokens.length; at++) {
      sum += values[(at - 1) * VOCABULARY + (tokens[at] ?? NaN)] ?? NaN;
    }
    return sum;
  });
}

for (const [name, config] of Object.entries(configs)) {
  test(`${name}: shared prefixes, forks and batches of any size agree with the whole forward pass`, async () => {
    const model = createModel(createConfig(config), { seed: 3 });
    const random = new Random(name);
    const draw = (count: number): number[] => Array.from({ length: count }, () => random.below(VOCABULARY));
    const prefix = draw(12);
    const requests = [3, 3, 7].flatMap((length): ScoreRequest[] => {
      const question = [...prefix, ...draw(length)];
      return [1, 1, 4].map((tail) => ({
        tokens: Int32Array.from([...question, ...draw(tail)]),
        start: question.length,
      }));
    });
    const before = tf.memory().numTensors;
    const shared = SharedPrefix.prefill(model, Int32Array.from(prefix));
    const routes = [
      await scoreRequests(model, requests, { greedy: true }),
      await scoreRequests(model, requests, { prefix: shared }),
      await scoreRequests(model, requests, { batch: 1 }),
      await scoreRequests(model, requests, { batch: 3 }),
    ];
    shared.dispose();
    assert.is(tf.memory().numTensors, before, 'nothing is left behind');
    for (const [index, request] of requests.entries()) {
      const expected = byForward(model, request);
      for (const scores of routes) {
        const actual = scores[index]?.logLikelihood ?? NaN;
        assert.ok(Math.abs(actual - expected) < 1e-4, `${actual} is not ${expected}`);
      }
    }
    model.dispose();
  });
}

test.run();
