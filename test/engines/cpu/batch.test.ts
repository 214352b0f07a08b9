/**
 * Sequences side by side get the logits that each gets alone, in every layout, on the CPU engine. Not to the last bit: matmuls
 * of other numbers of rows add in another order.
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCpu } from '../../../src/engines/cpu/index.js';
import type { LanguageModel } from '../../../src/model/index.js';
import * as tf from '../../../src/tf.js';
import { CASES, ids, randomTokens, testModel } from '../../model/cases.js';
import { usePlainBackend } from '../../plain-backend.js';

const test = suite('cpu engine: batches');
test.before(async () => {
  await startCpu({ threads: 1 });
});
test.after(usePlainBackend);

/** Of the largest logit; the worst difference seen is a third of it. */
const TOLERANCE = 2e-5;
const [SEQUENCES, PROMPT, LENGTH] = [3, 40, 50];

/** Logits [steps][sequence][token] of a prompt in two chunks and of the decoding steps after it. */
function logitsOf(model: LanguageModel, rows: number[][]): number[][][] {
  const cache = model.createCache({ batch: rows.length, maxTokens: 64 });
  const results: number[][][] = [];
  tf.tidy(() => {
    const prompt = ids(rows.map((row) => row.slice(0, PROMPT)));
    results.push(model.prefill(prompt, cache, { chunkSize: 24 }).arraySync());
    for (let at = PROMPT; at < LENGTH; at++) {
      const next = rows.map((row) => row[at] ?? 0);
      results.push(model.decode(tf.tensor1d(next, 'int32'), cache).arraySync());
    }
  });
  cache.dispose();
  return results;
}

for (const [name, input] of Object.entries(CASES)) {
  test(`${name}: every sequence of a batch has the logits of a batch of its own`, () => {
    const model = testModel(input);
    const tokens = randomTokens(SEQUENCES, LENGTH);
    const together = logitsOf(model, tokens);
    const largest = Math.max(...together.flat(2).map(Math.abs));
    assert.is(together.length, 1 + LENGTH - PROMPT);
    tokens.forEach((row, sequence) => {
      logitsOf(model, [row]).forEach(([alone = []], step) => {
        const found = together[step]?.[sequence] ?? [];
        const worst = Math.max(...alone.map((value, token) => Math.abs(value - (found[token] ?? NaN))));
        assert.ok(worst <= TOLERANCE * largest, `sequence ${sequence}, step ${step}: ${worst} of ${largest}`);
      });
    });
    model.dispose();
  });
}

test.run();
