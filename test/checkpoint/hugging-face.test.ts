import { rmSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';
import { readJson, writeJson } from '../../src/checkpoint/files.js';
import { loadTokenizer } from '../../src/data/tokenizer.js';
import { byteLevel, writeFiles } from '../data/tokenizers/files.js';
import { described, makeCheckpoint, SMALL } from './checkpoints.js';
import { refuses, rejects, scratchDirectory } from './scratch.js';

const test = suite('checkpoint/hugging-face');
const at = scratchDirectory(test);

const TRANSFORMER = SMALL.transformer ?? {};

/** A Hugging Face directory whose config.json has other fields. */
async function withFields(fields: Readonly<Record<string, unknown>>): Promise<string> {
  rmSync(at('hf'), { recursive: true, force: true });
  const source = await makeCheckpoint(at('source'), TRANSFORMER, {});
  await convertCheckpoint(source, at('hf'), { to: 'huggingface', overwrite: true });
  const merged = { ...readJson(at('hf/config.json')), ...fields };
  const kept = Object.entries(merged).filter(([, value]) => value !== undefined);
  writeJson(at('hf/config.json'), Object.fromEntries(kept));
  return at('hf');
}

test('ids of begin, end and padding survive conversions, wherever they are named', async () => {
  const directory = await withFields({ bos_token_id: 265, eos_token_id: [0, 70], pad_token_id: 3 });
  writeFiles(directory, byteLevel(), { 'tokenizer_config.json': { eos_token: '<|endoftext|>' } });
  for (const to of ['yoco', 'official', 'meta', 'huggingface'] as const) {
    await convertCheckpoint(directory, at(to), { to });
    const tokenizer = await loadTokenizer(at(to));
    assert.equal([to, ...tokenizer.stopTokens], [to, 0, 70]);
    await convertCheckpoint(at(to), at(`${to}-back`), { to: 'huggingface' });
    const { bos_token_id, eos_token_id, pad_token_id } = readJson(at(`${to}-back/config.json`));
    assert.equal([bos_token_id, eos_token_id, pad_token_id], [265, [0, 70], 3], to);
  }
});

test('ids of the tokenizer are written where nothing else names them, never those of LlamaConfig', async () => {
  const source = await makeCheckpoint(at('named'), TRANSFORMER, { tokenizer: 'cl100k_base' });
  await convertCheckpoint(source, at('ids'), { to: 'huggingface' });
  const { bos_token_id, eos_token_id, pad_token_id } = readJson(at('ids/config.json'));
  assert.equal([bos_token_id, eos_token_id, pad_token_id], [0, 2, 1]);
  const config = readJson(await withFields({}).then((directory) => `${directory}/config.json`));
  assert.is(config.eos_token_id, 256, 'the end of the byte tokenizer');
});

test('a context length that is not known is left out', async () => {
  const directory = await withFields({ max_position_embeddings: undefined });
  assert.is(described(directory).context, null);
  await convertCheckpoint(directory, at('native'), { to: 'yoco' });
  const { remarks } = await convertCheckpoint(at('native'), at('again'), { to: 'huggingface' });
  assert.not.ok('max_position_embeddings' in readJson(at('again/config.json')));
  assert.match(
    remarks.join(),
    /no max_position_embeddings, for which transformers takes 2,048; --context writes it/,
  );
  const given = await convertCheckpoint(at('native'), at('given'), { to: 'huggingface', context: 777 });
  assert.is(readJson(at('given/config.json')).max_position_embeddings, 777);
  assert.equal(given.remarks, []);
  await rejects(
    convertCheckpoint(at('native'), at('meta'), { to: 'meta', context: 777 }),
    /Meta's layout has no field for the context length/,
  );
});

test('Mistral has its defaults where fields are absent, and no window where it is null', async () => {
  const window = async (fields: Readonly<Record<string, unknown>>): Promise<unknown> => {
    const { config } = described(await withFields({ model_type: 'mistral', ...fields }));
    return config.architecture === 'transformer' && config.slidingWindow;
  };
  assert.is(await window({ sliding_window: undefined }), 4096);
  assert.is(await window({ sliding_window: null }), null);
  assert.is(await window({ sliding_window: 64 }), 64);
});

test('what changes the computation is refused by name', async () => {
  const bare = await withFields({ model_type: undefined });
  refuses(() => described(bare), /it has no model_type, .* add llama, mistral, qwen2, qwen3/);
  const partial = await withFields({ rope_scaling: { rope_type: 'llama3', factor: 8 } });
  refuses(() => described(partial), /rope_scaling of type llama3 has no number low_freq_factor/);
  const untyped = await withFields({ rope_scaling: { factor: 8 } });
  refuses(() => described(untyped), /rope_scaling has a factor but no type: add rope_type/);
  const cases: readonly (readonly [Readonly<Record<string, unknown>>, RegExp])[] = [
    [{ attention_bias: true }, /attention_bias is true/],
    [{ model_type: 'qwen3', attention_bias: true }, /attention_bias is true/],
    [
      { model_type: 'qwen2', use_sliding_window: true, max_window_layers: 1 },
      /max_window_layers 1: only some of the layers have a window/,
    ],
    [{ model_type: 'qwen2_moe' }, /model_type is "qwen2_moe".* \(only llama, mistral, qwen2, qwen3\)/],
    [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor is 0\.5/],
    [{ logits_scaling: 8 }, /logits_scaling is 8/],
    [{ final_logit_softcapping: 30 }, /final_logit_softcapping is set/],
    [{ quantization_config: { bits: 4 } }, /quantization_config is set/],
    [{ layer_types: ['sliding_attention', 'full_attention'] }, /layer_types are not all full_attention/],
    [{ rope_scaling: { rope_type: 'yarn', factor: 4 } }, /rope_scaling of type "yarn" is not known/],
    [{ rope_scaling: { type: 'dynamic', factor: 2 } }, /rope_scaling of type "dynamic" is not known/],
    [
      { rope_parameters: { rope_type: 'longrope' }, rope_scaling: undefined },
      /of type "longrope" is not known/,
    ],
  ];
  for (const [fields, expected] of cases) {
    const directory = await withFields(fields);
    refuses(() => described(directory), expected);
  }
});

test.run();
