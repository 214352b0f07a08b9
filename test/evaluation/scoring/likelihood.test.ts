import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadTokenizer } from '../../../src/data/tokenizer.js';
import {
  encodeRequest,
  scoreRequests,
  type ScoreRequest,
} from '../../../src/evaluation/scoring/likelihood.js';
import { requestTree, treeTokens } from '../../../src/evaluation/scoring/request-tree.js';
import { SharedPrefix } from '../../../src/evaluation/scoring/shared-prefix.js';
import type { PackedSequence } from '../../../src/model/index.js';
import * as tf from '../../../src/tf.js';
import { usePlainBackend } from '../../plain-backend.js';
import { llamaLike, writeFiles } from '../../data/tokenizers/files.js';
import { StubModel } from '../stub-model.js';

const test = suite('evaluation/likelihood');
test.before(usePlainBackend);

const request = (tokens: number[], start: number): ScoreRequest => ({
  tokens: Int32Array.from(tokens),
  start,
});

/** The definition: sum of log p(token | tokens before). */
function expected(model: StubModel, { tokens, start }: ScoreRequest): number {
  let sum = 0;
  for (let at = start; at < tokens.length; at++) {
    sum += model.logProbability([...tokens.subarray(0, at)], tokens[at] ?? NaN);
  }
  return sum;
}

const close = (actual: number | undefined, wanted: number): void => {
  assert.ok(Math.abs((actual ?? NaN) - wanted) < 1e-4, `${actual} is not ${wanted}`);
};

const arbitraryRequests = fc.array(
  fc
    .tuple(fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 2, maxLength: 7 }), fc.nat())
    .map(([tokens, at]) => request(tokens, 1 + (at % (tokens.length - 1)))),
  { minLength: 1, maxLength: 8 },
);

test('batches of any size give the definition, whatever the requests share', async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryRequests, fc.integer({ min: 1, max: 9 }), async (requests, batch) => {
      const model = new StubModel(5);
      const scores = await scoreRequests(model, requests, { greedy: true, batch });
      for (const [index, one] of requests.entries()) {
        close(scores[index]?.logLikelihood, expected(model, one));
        assert.is(scores[index]?.tokens, one.tokens.length - one.start);
      }
      assert.is(model.openCaches, 0);
      assert.ok(model.packed.every((count) => count <= batch));
    }),
    { seed: 7, numRuns: 60 },
  );
});

test('a batch takes fewer passes and computes the same tokens', async () => {
  const requests = Array.from({ length: 10 }, (_, i) =>
    request([i, 1, 2, 3, 4].slice(0, 3 + (i % 3)), 1 + (i % 2)),
  );
  const run = async (batch: number): Promise<StubModel> => {
    const model = new StubModel(12);
    await scoreRequests(model, requests, { batch });
    return model;
  };
  const [one, four, many] = [await run(1), await run(4), await run(64)];
  assert.equal(one.packed, Array<number>(10).fill(1));
  assert.equal(four.packed, [4, 4, 2]);
  assert.equal(many.packed, [10]);
  for (const model of [four, many]) {
    assert.equal([model.consumed, model.logitsComputed], [one.consumed, one.logitsComputed]);
  }
});

test('caches are released when a pass fails', async () => {
  class Failing extends StubModel {
    override extendPacked(sequences: readonly PackedSequence[]): tf.Tensor2D | null {
      if (this.packed.length === 1) throw new Error('out of memory');
      return super.extendPacked(sequences);
    }
  }
  const model = new Failing(12);
  const requests = [request([1, 2, 3, 4], 1), request([1, 2, 5, 6], 1), request([1, 2, 7, 8], 1)];
  try {
    await scoreRequests(model, requests, { batch: 2 });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /out of memory/);
  }
  assert.is(model.openCaches, 0);
});

test('a shared prefix is consumed once and leaves no tensors behind', async () => {
  const model = new StubModel(12);
  const prefix = Array.from({ length: 50 }, (_, i) => i % 7);
  const questions = [
    [1, 2, 3],
    [4, 5],
    [1, 2, 6, 7],
  ];
  const requests = questions.flatMap((question) =>
    [8, 9, 10, 11].map((letter) =>
      request([...prefix, ...question, letter], prefix.length + question.length),
    ),
  );
  const before = tf.memory().numTensors;
  const scores = await scoreRequests(model, requests);
  assert.is(tf.memory().numTensors, before);
  requests.forEach((one, index) => {
    close(scores[index]?.logLikelihood, expected(model, one));
  });
  // 50 for the prefix; 1 2 shared, then 3 | 6 7; and 4 5. Single-token choices need no token consumed, no fork.
  assert.is(model.consumed, 50 + 2 + 1 + 2 + 2);
  assert.is(model.lossTokens, 0);
  assert.is(model.forks, 2);
});

test('requests that share nothing are packed into one pass', async () => {
  const model = new StubModel(12);
  const requests = [request([1, 2, 3], 1), request([4, 5, 6, 7], 2), request([8, 9], 1)];
  const before = tf.memory().numTensors;
  const scores = await scoreRequests(model, requests);
  assert.is(tf.memory().numTensors, before);
  requests.forEach((one, index) => {
    close(scores[index]?.logLikelihood, expected(model, one));
  });
  assert.equal([model.packed, model.consumed, model.logitsComputed], [[3], 6, 5]);
  assert.ok(scores.every(({ greedy }) => greedy === null));
});

test('greedy says whether decoding would give the continuation, token for token', async () => {
  const model = new StubModel(10, (context) => ((context.at(-1) ?? 0) + 1) % 10);
  const scores = await scoreRequests(
    model,
    [request([1, 2, 3, 4], 2), request([1, 2, 3, 5], 2), request([3, 5], 1)],
    {
      greedy: true,
    },
  );
  assert.equal(
    scores.map(({ greedy }) => greedy),
    [true, false, false],
  );
});

test('the tree counts shared tokens once, duplicates and prefixes of others included', () => {
  const requests = [
    request([1, 2, 3], 1),
    request([1, 2, 3], 2),
    request([1, 2, 4, 5], 1),
    request([1, 2], 1),
  ];
  assert.is(treeTokens(requestTree(requests)), 2 + 1 + 2);
  assert.is(treeTokens(requestTree([])), 0);
});

test('texts are encoded as a whole, after a begin token where there is one', async () => {
  const bytes = await loadTokenizer('bytes');
  assert.equal(encodeRequest(bytes, 'ab', ' c'), { ...request([97, 98, 32, 99], 2), dropped: 0 });
  assert.equal(encodeRequest(bytes, '', 'c'), { ...request([256, 99], 1), dropped: 0 });
  const cl100k = await loadTokenizer('cl100k_base');
  const { tokens, start } = encodeRequest(cl100k, 'Answer:', ' A');
  assert.is(tokens[0], cl100k.beginOfText);
  assert.is(cl100k.decode(tokens.subarray(start)), ' A');
  // A space at the end of the context belongs to the continuation.
  const inside = encodeRequest(cl100k, 'one ', 'two');
  assert.is(cl100k.decode(inside.tokens.subarray(inside.start)), ' two');
});

test('a token over the boundary is not scored: the context keeps the tokens it has alone', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'yoco-likelihood-'));
  const tokenizer = await loadTokenizer(writeFiles(directory, llamaLike()));
  rmSync(directory, { recursive: true });
  const { vocab } = llamaLike().model as { vocab: Record<string, number> };
  const pieces = (context: string, continuation: string, limit?: number): [string[], string[], number] => {
    const { tokens, start, dropped } = encodeRequest(tokenizer, context, continuation, limit);
    const texts = [...tokens].map((id) => Object.keys(vocab).find((text) => vocab[text] === id) ?? '');
    return [texts.slice(0, start), texts.slice(start), dropped];
  };
  // What `_encode_pair` of lm-evaluation-harness 0.4.13 gives; as a whole, `he ran` is `▁ he ▁ran`.
  assert.equal(pieces('h', 'e ran'), [['<s>', '▁', 'h'], ['▁ran'], 0]);
  assert.equal(pieces('the', ' dog'), [['<s>', '▁the'], ['▁dog'], 0]);
  assert.equal(pieces('the \n', 'dog'), [['<s>', '▁the'], ['▁', '<0x0A>', 'd', 'og'], 0]);
  assert.equal(pieces('  ', 'a'), [['<s>'], ['▁▁', '▁a'], 0]);
  assert.equal(pieces('h', 'e ran', 3), [['<s>', 'h'], ['▁ran'], 1]);
  // The harness has nothing to score where the whole has no more tokens than the context.
  assert.equal(pieces('the do', 'g'), [['<s>', '▁the'], ['▁dog'], 0]);
  assert.equal(pieces('dog', ''), [['<s>'], ['▁dog'], 0]);
});

test('of texts beyond the limit the end is kept, with something before the continuation', async () => {
  const bytes = await loadTokenizer('bytes');
  assert.equal(encodeRequest(bytes, 'abcdef', 'gh', 5), {
    ...request([...Buffer.from('defgh')], 3),
    dropped: 3,
  });
  assert.equal(encodeRequest(bytes, 'abcdef', 'gh', 1), {
    ...request([...Buffer.from('fgh')], 1),
    dropped: 5,
  });
  const cl100k = await loadTokenizer('cl100k_base');
  const { tokens, start } = encodeRequest(cl100k, 'one two three four', ' five', 3);
  assert.equal([tokens.length, start, tokens[0]], [3, 2, 0]);
});

test('a prefix that was consumed before is not consumed again', async () => {
  const model = new StubModel(12);
  const tokens = [3, 1, 4, 1, 5];
  const prefix = SharedPrefix.prefill(model, Int32Array.from(tokens));
  const requests = [
    request([...tokens, 9, 2, 6], 6),
    request([...tokens, 9, 2, 7], 7),
    request([...tokens, 8, 1], 6),
  ];
  for (let round = 0; round < 2; round++) {
    model.consumed = 0;
    const scores = await scoreRequests(model, requests, { prefix });
    requests.forEach((one, index) => {
      close(scores[index]?.logLikelihood, expected(model, one));
    });
    assert.is(model.consumed, 3);
  }
  prefix.dispose();
  assert.is(model.openCaches, 0);
  assert.not(prefix.begins(Int32Array.from(tokens)));
});

test('requests without context or continuation are bugs', async () => {
  const model = new StubModel(4);
  for (const bad of [request([1, 2], 0), request([1, 2], 2)]) {
    try {
      await scoreRequests(model, [bad]);
      assert.unreachable();
    } catch (error) {
      assert.instance(error, RangeError);
    }
  }
});

test.run();
