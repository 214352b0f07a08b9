/** The server over HTTP with a tiny model, on a port of this machine. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadTokenizer } from '../../src/data/tokenizer.js';
import { PrefixStore } from '../../src/evaluation/generation/prefix-store.js';
import { encodeRequest, scoreRequests } from '../../src/evaluation/scoring/likelihood.js';
import { createConfig, createModel, type LanguageModel } from '../../src/model/index.js';
import type { CompletionBody } from '../../src/serving/completions.js';
import * as tf from '../../src/tf.js';
import { StubModel } from '../evaluation/stub-model.js';
import { usePlainBackend } from '../plain-backend.js';
import { alphabet, complete, errorOf, Held, only, post, serving } from './serving.js';

const test = suite('serving');
let model: LanguageModel;
test.before(async () => {
  await usePlainBackend();
  model = createModel(createConfig({ dim: 8, layers: 2, hiddenDim: 8, heads: 2, vocabSize: 257 }), {
    seed: 2,
  });
});

test('echoed log-probabilities are those that yoco eval computes, whatever is asked beside them', async () => {
  const tokenizer = await loadTokenizer('bytes');
  const requests = [
    ['one ', 'two'],
    ['a longer context, ', 'b'],
    ['x', 'yz'],
  ].map(([context = '', continuation = '']) => encodeRequest(tokenizer, context, continuation));
  const expected = await scoreRequests(model, requests, { greedy: true });
  await serving({ model }, async (url) => {
    const prompt = requests.map(({ tokens }) => [...tokens]);
    const { choices } = await complete(url, { prompt, max_tokens: 0, echo: true, logprobs: 1 });
    assert.is(choices.length, 3);
    for (const [i, { start, tokens }] of requests.entries()) {
      const { token_logprobs: found = [], top_logprobs: top = [] } = choices[i]?.logprobs ?? {};
      assert.is(found.length, tokens.length);
      assert.is(found[0], null);
      const sum = found.slice(start).reduce<number>((a, b) => a + (b ?? NaN), 0);
      assert.ok(Math.abs(sum - (expected[i]?.logLikelihood ?? NaN)) < 1e-4);
      const greedy = found
        .slice(start)
        .every((value, at) => value === Math.max(...Object.values(top[start + at] ?? {})));
      assert.is(greedy, expected[i]?.greedy);
    }
  });
});

test('every form of a prompt gives the same text, alone or beside others, streamed or not', async () => {
  const before = tf.memory().numTensors;
  await serving({ model, batch: 2 }, async (url) => {
    const options = { max_tokens: 6, temperature: 0.9, seed: 5 };
    const ids = [...Buffer.from('hello')];
    const alone = await only(complete(url, { ...options, prompt: 'hello' }));
    assert.is(alone.finish_reason, 'length');
    const beside = await complete(url, { ...options, prompt: ['other', 'hello', 'more than two'] });
    assert.is(beside.choices[1]?.text, alone.text);
    assert.equal(beside.usage, { prompt_tokens: 23, completion_tokens: 18, total_tokens: 41 });
    assert.is((await complete(url, { ...options, prompt: ids })).choices[0]?.text, alone.text);
    assert.is((await complete(url, { ...options, prompt: [ids, ids] })).choices[1]?.text, alone.text);
    const stream = await (await post(url, { ...options, prompt: 'hello', stream: true })).text();
    const events = stream.split('\n\n').filter((line) => line !== '');
    assert.is(events.pop(), 'data: [DONE]');
    const parts = events.map((line) => (JSON.parse(line.slice(6)) as CompletionBody).choices[0]?.text ?? '');
    assert.is(parts.join(''), alone.text);
    const two = await complete(url, { ...options, prompt: 'hello', n: 2 });
    assert.is(two.choices[0]?.text, alone.text);
    assert.is.not(two.choices[1]?.text, alone.text);
  });
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
});

test('a stop text ends the answer before it, and so does the end of the text', async () => {
  await serving({ model: alphabet() }, async (url) => {
    const ask = (body: object): Promise<CompletionBody['choices'][number]> =>
      only(complete(url, { prompt: 'a', temperature: 0, max_tokens: 20, ...body }));
    assert.equal(await ask({ stop: ['xyz', 'fg'] }), {
      index: 0,
      text: 'bcde',
      logprobs: null,
      finish_reason: 'stop',
    });
    assert.is((await ask({ stop: 'fz', max_tokens: 5 })).text, 'bcdef');
    const ended = await ask({ prompt: 'x', logprobs: 0 });
    assert.is(ended.text, 'yz');
    assert.is(ended.finish_reason, 'stop');
    assert.equal(ended.logprobs?.tokens, ['y', 'z', '']);
    assert.equal((await ask({ prompt: 'vw', echo: true, max_tokens: 2 })).text, 'vwxy');
  });
});

test('64 clients at once: nothing is lost, and they share passes', async () => {
  const stub = alphabet();
  await serving({ model: stub, batch: 16 }, async (url) => {
    const texts = await Promise.all(
      Array.from({ length: 64 }, async (_, i) => {
        const prompt = String.fromCharCode(97 + (i % 16));
        return (await complete(url, { prompt, temperature: 0, max_tokens: 8 })).choices[0]?.text;
      }),
    );
    for (const [i, text] of texts.entries()) {
      assert.is(text, 'bcdefghijklmnopqrstuvwxyz'.slice(i % 16, (i % 16) + 8));
    }
    assert.ok(stub.packed.every((count) => count <= 16));
    assert.ok(Math.max(...stub.packed) > 1);
  });
  assert.is(stub.openCaches, 0);
});

test('what prompts begin with is not read again', async () => {
  const stub = alphabet();
  const prefixes = new PrefixStore(1e6);
  await serving({ model: stub, prefixes }, async (url) => {
    const shared = 'a text of more than sixteen characters';
    for (const end of ['one', 'two'])
      await complete(url, { prompt: `${shared} ${end}`, temperature: 0, max_tokens: 1 });
    assert.is(stub.consumed, shared.length + 1 + 3 + 3);
  });
  prefixes.dispose();
  assert.is(stub.openCaches, 0);
});

test('bad requests are refused in words that name the field', async () => {
  await serving({ model }, async (url) => {
    const cases: [body: unknown, status: number, message: RegExp, param: string | null][] = [
      ['{', 400, /not JSON/, null],
      [[1], 400, /must be a JSON object/, null],
      [{}, 400, /prompt: is missing/, 'prompt'],
      [{ prompt: 3 }, 400, /prompt: must be a text, a list of token ids/, 'prompt'],
      [{ prompt: [] }, 400, /prompt/, 'prompt'],
      [{ prompt: '', echo: true, max_tokens: 64 }, 400, /65, but at most 64 fit/, 'prompt'],
      [{ prompt: [300] }, 400, /token 300 is beyond the vocabulary of 257/, 'prompt'],
      [{ prompt: 'a', max_tokens: 64 }, 400, /together 65, but at most 64 fit/, 'prompt'],
      [{ prompt: 'a', max_tokens: 0 }, 400, /unless echo is true/, 'max_tokens'],
      [{ prompt: 'a', temperature: -1 }, 400, /temperature: must be from 0 to 2/, 'temperature'],
      [{ prompt: 'a', top_p: 0 }, 400, /top_p: must be above 0/, 'top_p'],
      [{ prompt: 'a', logprobs: 6 }, 400, /logprobs: must be from 0 to 5/, 'logprobs'],
      [{ prompt: 'a', stop: [''] }, 400, /stop: an empty text/, 'stop'],
      [{ prompt: 'a', best_of: 2 }, 400, /best_of is not supported/, 'best_of'],
      [{ prompt: 'a', top_k: 2 }, 400, /top_k: there is no such field/, 'top_k'],
      [{ prompt: 'a', model: 'other' }, 404, /no model 'other': 'tiny' is served/, 'model'],
      [{ prompt: 'a'.repeat(20_000) }, 413, /larger than 10000 bytes/, null],
    ];
    for (const [body, status, message, param] of cases) {
      const error = await errorOf(await post(url, body));
      assert.match(error.message, message);
      assert.equal([error.status, error.param, error.type], [status, param, 'invalid_request_error']);
    }
    const nowhere = await errorOf(await fetch(`${url}/v1/chat/completions`, { method: 'POST' }));
    assert.equal([nowhere.status, /there is no POST/.test(nowhere.message)], [404, true]);
    assert.is(
      (await complete(url, { prompt: 'a', best_of: 1, logit_bias: {}, suffix: null, max_tokens: 1 })).choices
        .length,
      1,
    );
  });
});

test('models and health; a key where one is set', async () => {
  await serving({ model, apiKey: 'secret' }, async (url) => {
    assert.equal(await (await fetch(`${url}/health`)).json(), { status: 'ok', active: 0, waiting: 0 });
    for (const headers of [
      { Authorization: '' },
      { Authorization: 'Bearer wrong' },
      { Authorization: 'secret' },
    ]) {
      const error = await errorOf(await post(url, { prompt: 'a' }, headers));
      assert.equal([error.status, error.code], [401, 'invalid_api_key']);
    }
    const headers = { Authorization: 'Bearer secret' };
    assert.is((await post(url, { prompt: 'a', max_tokens: 1 }, headers)).status, 200);
    const list = (await (await fetch(`${url}/v1/models`, { headers })).json()) as { data: { id: string }[] };
    assert.equal(
      list.data.map(({ id }) => id),
      ['tiny'],
    );
    assert.is((await fetch(`${url}/v1/models/tiny`, { headers })).status, 200);
    assert.is((await fetch(`${url}/v1/models/other`, { headers })).status, 404);
  });
});

test('logits that are not finite are an error, beside answers that are', async () => {
  const broken = new StubModel(257, (context) => (context[0] === 98 ? 5 : 97));
  const row = broken.row.bind(broken);
  broken.row = (context) => (context[0] === 98 ? row(context).map(() => NaN) : row(context));
  await serving({ model: broken }, async (url) => {
    const [good, bad] = await Promise.all([
      post(url, { prompt: 'a', temperature: 0, max_tokens: 2 }),
      post(url, { prompt: 'b', temperature: 0, max_tokens: 2 }),
    ]);
    assert.is(((await good.json()) as CompletionBody).choices[0]?.text, 'aa');
    const error = await errorOf(bad);
    assert.match(error.message, /logits are not finite/);
    assert.equal([error.status, error.type], [500, 'server_error']);
    const stream = await (await post(url, { prompt: 'b', stream: true })).text();
    assert.match(stream, /^data: \{"error":\{"message":"the model's logits are not finite/);
    assert.not.match(stream, /DONE/);
  });
  assert.is(broken.openCaches, 0);
});

test('a server that is stopped answers what is at work, takes no more, and cancels what is late', async () => {
  const held = new Held(257, () => 97);
  await serving({ model: held }, async (url, server) => {
    const answer = post(url, { prompt: 'abc', temperature: 0, max_tokens: 40 });
    await held.started;
    const stopped = server.stop(60);
    assert.is((await answer).status, 200);
    assert.is(await stopped, 0);
    assert.is(
      await post(url, { prompt: 'a' }).then(
        () => 'answered',
        () => 'refused',
      ),
      'refused',
    );
  });
  const late = new Held(257, () => 97);
  await serving({ model: late }, async (url, server) => {
    const answer = post(url, { prompt: 'abc', temperature: 0, max_tokens: 60 });
    await late.started;
    assert.is(await server.stop(0), 1);
    const error = await errorOf(await answer);
    assert.equal([error.status, error.code], [503, 'stopping']);
  });
  assert.is(late.openCaches, 0);
});

test('sequences beyond those that may wait are refused', async () => {
  const held = new Held(257, () => 97);
  await serving({ model: held, batch: 1, maxWaiting: 1 }, async (url) => {
    const prompt = ['abc', 'abd'];
    const first = post(url, { prompt, temperature: 0, max_tokens: 60 });
    await held.started;
    const error = await errorOf(await post(url, { prompt: 'abc' }));
    assert.equal([error.status, error.type, error.code], [429, 'rate_limit_error', 'overloaded']);
    assert.is((await first).status, 200);
  });
});

test.run();
