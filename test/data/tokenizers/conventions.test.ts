import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { describeOrigins, loadTokenizer } from '../../../src/data/tokenizer.js';
import type { Tokenizer } from '../../../src/data/tokenizer.js';
import type { Description } from './files.js';
import { addedToken, byteLevel, llamaLike, template, writeFiles } from './files.js';

const test = suite('data/tokenizers/conventions');
const directory = mkdtempSync(join(tmpdir(), 'yoco-conventions-'));
test.after(() => {
  rmSync(directory, { recursive: true });
});

const vocab = (byteLevel().model as { vocab: Record<string, number> }).vocab;
const BOS = vocab['<bos>'] as number;
const EOT = vocab['<eot>'] as number;
let count = 0;

const load = (description: Description, beside: Readonly<Record<string, unknown>> = {}): Promise<Tokenizer> =>
  loadTokenizer(writeFiles(join(directory, String(count++)), description, beside));

const NAMES = { bos_token: '<bos>', eos_token: '<|endoftext|>' };

/** What transformers 4.57 puts before a text, by class, `add_bos_token` and template. */
const PUT_BEFORE: readonly [
  tokenizerClass: string,
  add: boolean | undefined,
  template: boolean,
  before: boolean,
][] = [
  ...(['LlamaTokenizerFast', 'LlamaTokenizer', 'GemmaTokenizerFast'] as const).flatMap((name) =>
    [true, false].flatMap((withTemplate): [string, boolean | undefined, boolean, boolean][] => [
      [name, true, withTemplate, true],
      [name, false, withTemplate, false],
      [name, undefined, withTemplate, true],
    ]),
  ),
  ...(['PreTrainedTokenizerFast', 'Qwen2TokenizerFast'] as const).flatMap((name) =>
    [true, false, undefined].flatMap((add): [string, boolean | undefined, boolean, boolean][] => [
      [name, add, true, true],
      [name, add, false, false],
    ]),
  ),
];

test('the token before a text follows class, add_bos_token and template as in transformers', async () => {
  for (const [tokenizer_class, add_bos_token, withTemplate, before] of PUT_BEFORE) {
    const description = byteLevel({ post_processor: withTemplate ? template(['<bos>', BOS]) : null });
    const config = { ...NAMES, tokenizer_class, ...(add_bos_token === undefined ? {} : { add_bos_token }) };
    const { beginOfText } = await load(description, { 'tokenizer_config.json': config });
    const label = `${tokenizer_class} ${String(add_bos_token)} ${withTemplate ? 'template' : 'none'}`;
    assert.is(beginOfText, before ? BOS : null, label);
  }
});

test('a template that only appends a token puts nothing before a text', async () => {
  const tokenizer = await load(byteLevel({ post_processor: template(null, ['<eot>', EOT]) }));
  assert.is(tokenizer.beginOfText, null);
  assert.equal([...tokenizer.encode(' the dog')], [...(await load(byteLevel())).encode(' the dog')]);
});

test('post-processors of BERT and in a sequence say what they put before', async () => {
  const bert = { type: 'BertProcessing', sep: ['<eot>', EOT], cls: ['<bos>', BOS] };
  assert.is((await load(byteLevel({ post_processor: bert }))).beginOfText, BOS);
  const sequence = {
    type: 'Sequence',
    processors: [{ type: 'ByteLevel', trim_offsets: true }, template(['<bos>', BOS])],
  };
  assert.is((await load(byteLevel({ post_processor: sequence }))).beginOfText, BOS);
  const two = { type: 'Sequence', processors: [template(['<bos>', BOS]), template(['<eot>', EOT])] };
  await rejects(load(byteLevel({ post_processor: two })), /puts 2 tokens \(\d+, \d+\) before a text/);
});

test('stop ids: generation_config.json, else config.json, else the end token', async () => {
  const tokens = { 'tokenizer_config.json': NAMES };
  const config = { eos_token_id: 70, bos_token_id: BOS };
  assert.equal((await load(byteLevel(), tokens)).stopTokens, [0]);
  assert.equal((await load(byteLevel(), { ...tokens, 'config.json': config })).stopTokens, [70]);
  const generation = { 'generation_config.json': { eos_token_id: [0, 71] }, 'config.json': config };
  const tokenizer = await load(byteLevel(), { ...tokens, ...generation });
  assert.equal(tokenizer.stopTokens, [0, 71]);
  assert.is(tokenizer.endOfText, 0, 'documents end with the named token');
  assert.ok(describeOrigins(tokenizer).includes('stop: 0, 71 (generation_config.json: eos_token_id)'));
  await rejects(
    load(byteLevel(), { 'config.json': { eos_token_id: '<eot>' } }),
    /config\.json: its 'eos_token_id' is not an id/,
  );
  await rejects(
    load(byteLevel(), { 'config.json': { eos_token_id: [-2] } }),
    /is not an id or a list of ids/,
  );
  const none = { eos_token_id: 70, pad_token_id: -1 };
  const { padding, stopTokens } = await load(byteLevel(), { 'config.json': none });
  assert.equal([padding, ...stopTokens], [null, 70], 'the first conversions of Llama write -1 for none');
});

test('special_tokens_map.json comes first unless tokenizer_config.json lists added tokens', async () => {
  const map = {
    'special_tokens_map.json': { eos_token: { content: '<eot>', special: true }, pad_token: '<bos>' },
  };
  const legacy = await load(byteLevel(), { ...map, 'tokenizer_config.json': NAMES });
  assert.is(legacy.endOfText, EOT);
  assert.is(legacy.padding, BOS);
  const config = { ...NAMES, added_tokens_decoder: { '0': { content: '<|endoftext|>' } } };
  assert.is((await load(byteLevel(), { ...map, 'tokenizer_config.json': config })).endOfText, 0);
});

test('a file with a byte-order mark is read; a name that the vocabulary lacks is an error', async () => {
  const marked = `\uFEFF${JSON.stringify({ ...NAMES, eos_token: '<eot>' })}`;
  assert.is((await load(byteLevel(), { 'tokenizer_config.json': marked })).endOfText, EOT);
  const unknown = { 'tokenizer_config.json': { eos_token: '</done>' } };
  await rejects(load(byteLevel(), unknown), /its eos_token "<\/done>" is not in the vocabulary/);
  await rejects(
    load(byteLevel(), { 'tokenizer_config.json': { eos_token: 7 } }),
    /its 'eos_token' is not a token/,
  );
});

test('add_prefix_space of tokenizer_config.json holds, or is refused where the other file contradicts it', async () => {
  const config = (add: boolean | null): Record<string, unknown> => ({
    'tokenizer_config.json': { add_prefix_space: add },
  });
  const ids = async (add: boolean | null): Promise<number[]> => [
    ...(await load(byteLevel(), config(add))).encode('a dog'),
  ];
  const plain = await ids(null);
  assert.equal(await ids(false), plain);
  assert.equal(await ids(true), [...(await load(byteLevel())).encode(' a dog')]);
  assert.not.equal(await ids(true), plain);
  await rejects(
    load(llamaLike(), config(false)),
    /puts a space before a text, tokenizer_config\.json .* false/,
  );
  assert.equal(
    [...(await load(llamaLike(), config(true))).encode('a')],
    [...(await load(llamaLike())).encode('a')],
  );
});

test('tokens that only tokenizer_config.json lists are tokens', async () => {
  const next = EOT + 1;
  const listed = (id: number, content: unknown): Record<string, unknown> => ({
    'tokenizer_config.json': {
      eos_token: '<|im_end|>',
      added_tokens_decoder: {
        '0': { content: '<|endoftext|>' },
        [String(id)]: addedToken(id, String(content)),
      },
    },
  });
  const tokenizer = await load(byteLevel(), listed(next, '<|im_end|>'));
  assert.is(tokenizer.vocabSize, next + 1);
  assert.is(tokenizer.endOfText, next);
  assert.equal([...tokenizer.encode('a<|im_end|>')].at(-1), next);
  await rejects(
    load(byteLevel(), listed(next + 5, '<|im_end|>')),
    /<\|im_end\|>.* has id \d+ in the file but/,
  );
});

async function rejects(promise: Promise<unknown>, expected: RegExp): Promise<void> {
  const message = await promise.then(
    () => 'no error',
    (error: unknown) => (error as Error).message,
  );
  assert.match(message, expected);
}

test.run();
