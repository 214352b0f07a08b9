import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Random } from '../../../src/random.js';
import { loadTokenizer, type Tokenizer } from '../../../src/data/tokenizer.js';
import { consumeForLast } from '../../../src/evaluation/scoring/consume.js';
import { generateTokens } from '../../../src/evaluation/generation/generation.js';
import {
  drawToken,
  greedySampler,
  randomSampler,
  type Sampler,
} from '../../../src/evaluation/generation/sampling.js';
import { TextStream } from '../../../src/evaluation/generation/text-stream.js';
import * as tf from '../../../src/tf.js';
import { sharedTest } from '../../shared.js';
import { usePlainBackend } from '../../plain-backend.js';
import { llamaLike, writeFiles } from '../../data/tokenizers/files.js';
import { StubModel } from '../stub-model.js';

const test = suite('evaluation/generation');
test.before(usePlainBackend);

async function generate(
  model: StubModel,
  sampler: Sampler,
  limit: number,
  ...stopTokens: number[]
): Promise<number[]> {
  const cache = model.createCache();
  const logits = consumeForLast(model, cache, Int32Array.from([3, 4]));
  const tokens: number[] = [];
  for await (const token of generateTokens(model, cache, logits, { sampler, limit, stopTokens }))
    tokens.push(token);
  cache.dispose();
  return tokens;
}

const counting = (): StubModel => new StubModel(10, (context) => ((context.at(-1) ?? 0) + 1) % 10);

test('greedy decoding goes on until the limit or the end of the text, and leaves nothing behind', async () => {
  const before = tf.memory().numTensors;
  assert.equal(await generate(counting(), greedySampler, 3), [5, 6, 7]);
  assert.equal(await generate(counting(), greedySampler, 100, 8), [5, 6, 7]);
  assert.equal(await generate(counting(), greedySampler, 100, 9, 7), [5, 6], 'any of several ids stops');
  assert.is(tf.memory().numTensors, before);
  const model = counting();
  await generate(model, greedySampler, 3);
  assert.is(model.consumed, 2 + 2, 'the last token is not fed back');
});

test('generation stops with an error at logits that are not finite', async () => {
  const model = new (class extends StubModel {
    override row(context: readonly number[]): number[] {
      return super.row(context).map((value, id) => (context.length > 3 && id === 7 ? -Infinity : value));
    }
  })(10);
  const before = tf.memory().numTensors;
  for (const sampler of [
    greedySampler,
    randomSampler({ temperature: 1, topK: null, topP: null, random: new Random(1) }),
  ]) {
    try {
      await generate(model, sampler, 5);
      assert.unreachable();
    } catch (error) {
      assert.match((error as Error).message, /logits are not finite/);
    }
  }
  assert.is(tf.memory().numTensors, before);
});

test('the same seed draws the same tokens', async () => {
  const sampler = (seed: number): Sampler =>
    randomSampler({ temperature: 1, topK: null, topP: null, random: new Random(seed) });
  const first = await generate(new StubModel(10), sampler(1), 20);
  assert.equal(await generate(new StubModel(10), sampler(1), 20), first);
  assert.not.equal(await generate(new StubModel(10), sampler(2), 20), first);
});

test('draws follow the probabilities; temperature, top-k and top-p shape them', () => {
  const logits = Float32Array.from([0.1, 0.2, 0.4, 0.3].map(Math.log));
  const shares = (options: { temperature?: number; topK?: number; topP?: number }): number[] => {
    const random = new Random('shares');
    const all = { temperature: 1, topK: null, topP: null, random, ...options };
    const draws = Array.from({ length: 4000 }, () => drawToken(logits, all));
    return [0, 1, 2, 3].map((token) => draws.filter((draw) => draw === token).length / draws.length);
  };
  const near = (actual: number[], expected: number[]): void => {
    const far = actual.some((share, index) => Math.abs(share - (expected[index] ?? 0)) > 0.03);
    assert.not(far, `${actual.join(' ')} is not ${expected.join(' ')}`);
  };
  near(shares({}), [0.1, 0.2, 0.4, 0.3]);
  near(shares({ topK: 2 }), [0, 0, 4 / 7, 3 / 7]);
  near(shares({ topP: 0.69 }), [0, 0, 4 / 7, 3 / 7]);
  near(shares({ topP: 0.75 }), [0, 2 / 9, 4 / 9, 3 / 9]);
  near(shares({ topP: 0.01 }), [0, 0, 1, 0]);
  near(shares({ temperature: 0.5 }), [1 / 30, 4 / 30, 16 / 30, 9 / 30]);
  near(shares({ topK: 3, topP: 0.5 }), [0, 0, 4 / 7, 3 / 7]);
});

test('sampling options that cannot be meant are refused', () => {
  const make = (changes: object) => () =>
    randomSampler({ temperature: 1, topK: null, topP: null, random: new Random(1), ...changes });
  assert.throws(make({ temperature: 0 }), /must be above 0/);
  assert.throws(make({ topK: 0 }), /whole number from 1/);
  assert.throws(make({ topP: 1.5 }), /at most 1/);
});

const streamed = (tokenizer: Tokenizer, ids: Iterable<number>, before: Iterable<number> = []): string[] => {
  const stream = new TextStream(tokenizer, before);
  return [...Array.from(ids, (id) => stream.push(id)), stream.end()];
};

test('characters of several bytes appear whole', async () => {
  const bytes = await loadTokenizer('bytes');
  assert.equal(streamed(bytes, bytes.encode('aé🎉b')), ['a', '', 'é', '', '', '', '🎉', 'b', '']);
  assert.equal(streamed(bytes, [0xc3]), ['', '\uFFFD']);
  assert.is(streamed(bytes, [0xff, 97, 98, 99, 100]).join(''), '\uFFFDabcd');
  const byte = fc.constantFrom(0x61, 0xf0, 0x9f, 0x8e, 0x89, 0xe4, 0xb8, 0xad, 0xc3, 0xa9, 0x80, 0xff);
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 12 }), (ids) => {
      assert.is(streamed(bytes, ids).join(''), bytes.decode(ids));
    }),
    { numRuns: 2000 },
  );
  const cl100k = await loadTokenizer('cl100k_base');
  const text = 'naïve 🎉🎉 中文 end';
  assert.is(streamed(cl100k, cl100k.encode(text)).join(''), text);
});

test('a token takes one call of the tokenizer, and none while its text is not needed', async () => {
  const bytes = await loadTokenizer('bytes');
  let calls = 0;
  const counted = Object.assign(Object.create(bytes) as Tokenizer, {
    decode: (ids: Iterable<number>) => {
      calls += 1;
      return bytes.decode(ids);
    },
  });
  const text = 'a dog ran. '.repeat(40);
  const [before, ids] = [bytes.encode('x'.repeat(200)), bytes.encode(text)];
  assert.is(streamed(counted, ids, before).join(''), text);
  assert.ok(calls < 1.1 * ids.length, `${calls} calls for ${ids.length} tokens`);
  calls = 0;
  const stream = new TextStream(counted, before);
  for (const id of ids) stream.hold(id);
  assert.is(calls, 0);
  assert.is(stream.end(), text);
  assert.ok(calls <= 3, `${calls} calls`);
});

sharedTest(test, 'data/models/tinystories-656k', 'spaces between streamed words stay', async (path) => {
  const tokenizer = await loadTokenizer(path);
  const text = 'Once upon a time, a little girl named Lily lived.';
  assert.is(streamed(tokenizer, tokenizer.encode(text)).join(''), text);
});

test('a continuation keeps its first space, and streaming gives what decoding the whole gives', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'yoco-stream-'));
  const tokenizer = await loadTokenizer(writeFiles(directory, llamaLike()));
  rmSync(directory, { recursive: true });
  const [before, after] = ['a little', ' dog  ran. \n 中文 🎉  the'];
  const [first = new Int32Array(), second = new Int32Array()] = tokenizer.encodeParts([before, after]);
  assert.is(streamed(tokenizer, second, [1, ...first]).join(''), after);
  assert.is(streamed(tokenizer, [2, ...second], [1]).join(''), tokenizer.decode(second));
  const text = 'the dog ran '.repeat(30);
  assert.is(streamed(tokenizer, tokenizer.encode(text)).join(''), text);
});

test.run();
