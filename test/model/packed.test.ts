/** Sequences packed into one pass give what each gives alone. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ModelCache, PackedSequence } from '../../src/model/index.js';
import * as tf from '../../src/tf.js';
import { close } from '../ops/compare.js';
import { usePlainBackend } from '../plain-backend.js';
import { CASES, ids, randomTokens, testModel } from './cases.js';

const test = suite('model: packed sequences');
test.before(usePlainBackend);

/** What one sequence appends in each pass: a count of tokens, and the rows of logits it asks for; 0 tokens: it is absent. */
type Turn = readonly [count: number, logits: number];

const turn: fc.Arbitrary<Turn> = fc
  .tuple(fc.nat({ max: 4 }), fc.nat({ max: 4 }))
  .map(([count, logits]) => [count, Math.min(count, logits)]);
const batches: fc.Arbitrary<Turn[][]> = fc
  .integer({ min: 1, max: 4 })
  .chain((sequences) =>
    fc.array(fc.array(turn, { minLength: sequences, maxLength: sequences }), { minLength: 1, maxLength: 4 }),
  );

for (const [name, input] of Object.entries(CASES)) {
  test(`${name}: logits of packed sequences are those of forward, whatever the lengths`, () => {
    const model = testModel(input);
    const length = 16;
    const texts = randomTokens(4, length);
    const full = tf.tidy(() => model.forward(ids(texts)));
    const before = tf.memory().numTensors;
    fc.assert(
      fc.property(batches, (passes) => {
        const caches = passes[0]?.map(() => model.createCache({ maxTokens: length })) ?? [];
        for (const turns of passes) {
          const present = turns.map((turn, i) => ({ turn, i })).filter(({ turn: [count] }) => count > 0);
          if (present.length === 0) continue;
          const expected: [sequence: number, position: number][] = [];
          const sequences = present.map(({ turn: [count, logits], i }): PackedSequence => {
            const cache = caches[i] as ModelCache;
            const end = cache.length + count;
            for (let position = end - logits; position < end; position++) expected.push([i, position]);
            return { tokens: Int32Array.from(texts[i]?.slice(cache.length, end) ?? []), cache, logits };
          });
          const found = model.extendPacked(sequences);
          tf.tidy(() => {
            assert.is(found?.shape[0] ?? 0, expected.length);
            for (const [row, [sequence, position]] of expected.entries()) {
              const rowOf = tf.slice(found as tf.Tensor2D, [row, 0], [1, -1]);
              const whole = tf.slice(full, [sequence, position, 0], [1, 1, -1]);
              close(rowOf, whole.dataSync(), 1e-5, `sequence ${sequence} at ${position}`);
            }
          });
          found?.dispose();
        }
        for (const cache of caches) cache.dispose();
      }),
      { numRuns: 5, seed: 1 },
    );
    assert.is(tf.memory().numTensors, before, 'tensors left behind');
    full.dispose();
    model.dispose();
  });
}

test('forks of one prefix, packed, are independent of each other', () => {
  const model = testModel(CASES['gated retention'] ?? {});
  const [tokens = []] = randomTokens(1, 8);
  tf.tidy(() => {
    const prefix = model.createCache();
    model.extend(ids([tokens.slice(0, 5)]), prefix, { logits: 'none' });
    const [a, b] = [prefix.fork(), prefix.fork()];
    const sequences: PackedSequence[] = [
      { tokens: Int32Array.from(tokens.slice(5)), cache: a, logits: 1 },
      { tokens: Int32Array.of(1, 2), cache: b, logits: 1 },
    ];
    const found = model.extendPacked(sequences) as tf.Tensor2D;
    const other = [...tokens.slice(0, 5), 1, 2];
    close(
      tf.slice(found, [0, 0], [1, -1]),
      tf.slice(model.forward(ids([tokens])), [0, 7, 0], [1, 1, -1]).dataSync(),
      1e-5,
      'the prefix continued',
    );
    close(
      tf.slice(found, [1, 0], [1, -1]),
      tf.slice(model.forward(ids([other])), [0, 6, 0], [1, 1, -1]).dataSync(),
      1e-5,
      'the prefix continued otherwise',
    );
    assert.equal([prefix.length, a.length, b.length], [5, 8, 7]);
    for (const cache of [prefix, a, b]) cache.dispose();
  });
  model.dispose();
});

test('what cannot be packed is refused before anything has changed', () => {
  const model = testModel(CASES.transformer ?? {});
  const [one, pair] = [model.createCache(), model.createCache({ batch: 2 })];
  const sequence = (cache: ModelCache, tokens: number[]): PackedSequence => ({
    tokens: Int32Array.from(tokens),
    cache,
    logits: 1,
  });
  assert.throws(() => model.extendPacked([]), /no sequences/);
  assert.throws(() => model.extendPacked([sequence(one, [])]), /no tokens/);
  assert.throws(() => model.extendPacked([sequence(pair, [1])]), /of one sequence, found 2/);
  assert.throws(
    () => model.extendPacked([sequence(one, [1]), sequence(one, [2])]),
    /one sequence of a batch/,
  );
  assert.throws(() => model.extendPacked([{ ...sequence(one, [1]), logits: 2 }]), /1 tokens have no 2 rows/);
  assert.is(one.length, 0);
  for (const cache of [one, pair]) cache.dispose();
  model.dispose();
});

test.run();
