import { readFileSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';
import { GgufFile } from '../../src/checkpoint/gguf/file.js';
import { writeGguf, type GgufField } from '../../src/checkpoint/gguf/writer.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { loadTokenizer } from '../../src/data/tokenizer.js';
import { byteLevel, llamaLike, writeFiles } from '../data/tokenizers/files.js';
import { contents, described, makeCheckpoint, SMALL } from './checkpoints.js';
import { refuses, rejects, scratchDirectory } from './scratch.js';

const test = suite('checkpoint/gguf');
const at = scratchDirectory(test);
const cache = process.env.YOCO_CACHE;
test.before.each(() => {
  process.env.YOCO_CACHE = at('cache');
});
test.after(() => {
  if (cache === undefined) delete process.env.YOCO_CACHE;
  else process.env.YOCO_CACHE = cache;
});

const WIDE = {
  architecture: 'transformer',
  dim: 64,
  layers: 1,
  hiddenDim: 96,
  heads: 4,
  kvHeads: 2,
} as const;

const MODELS = {
  plain: SMALL.transformer ?? {},
  // Of heads so wide that some frequencies are stretched.
  scaled: { ...SMALL.scaled, headDim: 16, ropeTheta: 5e5 },
  qwen2: { ...SMALL.transformer, attentionBias: true },
  qwen3: { ...SMALL.transformer, qkNorm: true },
};

for (const [model, dtype] of [
  ['plain', 'F32'],
  ['plain', 'F16'],
  ['scaled', 'BF16'],
  ['qwen2', 'F32'],
  ['qwen3', 'F32'],
] as const) {
  test(`${model} goes to gguf and back in ${dtype}`, async () => {
    const source = await makeCheckpoint(at('source'), MODELS[model], { dtype });
    await convertCheckpoint(source, at('there'), { to: 'gguf' });
    const there = described(at('there'));
    assert.equal([there.format.name, there.context], ['gguf', 512]);
    assert.equal(there.config, described(source).config);
    // Vectors are float32 in GGUF: all else must be the same bytes.
    await convertCheckpoint(at('there'), at('back'), { to: 'yoco', dtype });
    assert.equal(contents(at('back')), contents(source));
    assert.equal(contents(at('there/model.gguf')), contents(at('there')));
  });
}

test('Qwen keeps its name, its own tensors and the rows of W_Q, which Llama does not', async () => {
  for (const [model, own] of [
    ['qwen2', 'blk.0.attn_k.bias'],
    ['qwen3', 'blk.0.attn_k_norm.weight'],
  ] as const) {
    const source = await makeCheckpoint(at(`${model}-source`), MODELS[model], { dtype: 'F32' });
    await convertCheckpoint(source, at(model), { to: 'gguf' });
    const file = GgufFile.open(at(`${model}/model.gguf`));
    assert.is(file.metadata.get('general.architecture'), model);
    assert.is(file.metadata.get(`${model}.context_length`), 512);
    assert.ok(file.has(own));
    const ours = openCheckpoint(source).tensors.read('layers.0.attention.wq.weight');
    assert.equal(file.read('blk.0.attn_q.weight'), ours);
    file.close();
  }
});

test('Q8_0 keeps every value within half a step, and only gguf has it', async () => {
  const source = await makeCheckpoint(at('source'), { ...WIDE, vocabSize: 40 }, { dtype: 'F16' });
  await convertCheckpoint(source, at('q8'), { to: 'gguf', quantization: 'Q8_0' });
  const [before, after] = [openCheckpoint(source), openCheckpoint(at('q8'))];
  for (const name of before.tensors.names()) {
    const [exact, rounded] = [before.tensors.read(name), after.tensors.read(name)] as [
      Float32Array,
      Float32Array,
    ];
    for (let start = 0; start < exact.length; start += 32) {
      const block = exact.subarray(start, start + 32);
      const step = Math.max(...block.map(Math.abs)) / 127;
      const worst = Math.max(...block.map((value, i) => Math.abs(value - (rounded[start + i] ?? NaN))));
      assert.ok(worst <= step * 0.6, `${name}: ${worst} of ${step}`);
    }
  }
  assert.match((after.remarks ?? []).join(), /blocks of Q8_0 are read as float32/);
  for (const { tensors } of [before, after]) tensors.close();
  await rejects(
    convertCheckpoint(source, at('no'), { to: 'yoco', quantization: 'Q8_0' }),
    /only GGUF files hold Q8_0: use --to gguf/,
  );
});

test('what llama.cpp does not have is refused', async () => {
  const yoco = await makeCheckpoint(at('yoco'), SMALL.retention ?? {});
  await rejects(convertCheckpoint(yoco, at('a'), { to: 'gguf' }), /GGUF has no YOCO architecture/);
  const window = await makeCheckpoint(at('window'), SMALL.tied ?? {});
  await rejects(convertCheckpoint(window, at('a'), { to: 'gguf' }), /no sliding window/);
  const both = await makeCheckpoint(at('both'), { ...SMALL.transformer, attentionBias: true, qkNorm: true });
  await rejects(convertCheckpoint(both, at('a'), { to: 'gguf' }), /both attentionBias and qkNorm/);
  const stretched = await makeCheckpoint(at('stretched'), { ...MODELS.scaled, qkNorm: true });
  await rejects(
    convertCheckpoint(stretched, at('a'), { to: 'gguf' }),
    /qwen3 architecture has no rope scaling/,
  );
  const plain = await makeCheckpoint(at('plain'), SMALL.transformer ?? {}, { dtype: 'F64' });
  await rejects(convertCheckpoint(plain, at('a'), { to: 'gguf' }), /of type F64 .*: choose one by --dtype/);
  await rejects(convertCheckpoint(plain, at('a.gguf'), { to: 'gguf' }), /give a name without \.gguf/);
});

test('several files in a directory, and other files, are named', async () => {
  const source = await makeCheckpoint(at('source'), SMALL.transformer ?? {});
  await convertCheckpoint(source, at('two'), { to: 'gguf' });
  writeFileSync(at('two/b.gguf'), readFileSync(at('two/model.gguf')));
  refuses(() => openCheckpoint(at('two')), /holds 2 GGUF files: name one, such as .*b\.gguf/);
  assert.is(described(at('two/b.gguf')).format.name, 'gguf');
  writeFileSync(at('two/b.gguf'), 'no');
  refuses(() => openCheckpoint(at('two/b.gguf')), /not a GGUF file/);
});

async function tokenizersAgree(name: string, text: string, kind: string): Promise<void> {
  const source = await makeCheckpoint(
    at('source'),
    { ...SMALL.transformer, vocabSize: 340 },
    { tokenizer: 'tokenizer.json' },
  );
  writeFiles(source, name === 'llama' ? fullMerges(llamaLike()) : byteLevel());
  await convertCheckpoint(source, at('there'), { to: 'gguf' });
  const file = GgufFile.open(at('there/model.gguf'));
  assert.is(file.metadata.get('tokenizer.ggml.model'), kind);
  file.close();
  const [before, after] = [
    await loadTokenizer(source),
    await loadTokenizer(described(at('there')).tokenizer ?? ''),
  ];
  assert.equal(after.encode(text), before.encode(text));
  assert.equal([after.beginOfText, after.endOfText], [before.beginOfText, before.endOfText]);
  assert.is(after.decode(after.encode(text)), before.decode(before.encode(text)));
}

/** SentencePiece makes a token of any two that give it. */
function fullMerges(description: Record<string, unknown>): Record<string, unknown> {
  const model = description.model as { vocab: Record<string, number>; merges: [string, string][] };
  const has = (text: string): boolean => text in model.vocab;
  const merges = model.merges.flatMap((pair) => {
    const whole = pair.join('');
    const cuts = Array.from({ length: whole.length - 1 }, (_, i): [string, string] => [
      whole.slice(0, i + 1),
      whole.slice(i + 1),
    ]);
    const possible = cuts.filter((cut) => cut.every(has));
    return possible.sort((a, b) => b[0].length - a[0].length || b[1].length - a[1].length);
  });
  return { ...description, model: { ...model, merges } };
}

test('byte-level tokenizers keep their ids', () => tokenizersAgree('bytes', 'the dog, do in ä 12', 'gpt2'));
test('SentencePiece tokenizers keep their ids', () =>
  tokenizersAgree('llama', 'the little dog ran  ä', 'llama'));

test('a tokenizer that GGUF cannot say is left out with a remark', async () => {
  const source = await makeCheckpoint(
    at('source'),
    { ...SMALL.transformer, vocabSize: 340 },
    { tokenizer: 'tokenizer.json' },
  );
  const incomplete = llamaLike();
  (incomplete.model as { merges: unknown[] }).merges.pop();
  writeFiles(source, incomplete);
  const { remarks } = await convertCheckpoint(source, at('there'), { to: 'gguf' });
  assert.match(remarks.join(), /no kind of tokenizer that gives the ids/);
  assert.is(described(at('there')).tokenizer, null);
});

const FIELDS: GgufField[] = [
  { key: 'general.architecture', type: 'text', value: 'llama' },
  { key: 'llama.embedding_length', type: 'u32', value: 16 },
  { key: 'llama.block_count', type: 'u32', value: 1 },
  { key: 'llama.feed_forward_length', type: 'u32', value: 32 },
  { key: 'llama.attention.head_count', type: 'u32', value: 2 },
  { key: 'llama.attention.layer_norm_rms_epsilon', type: 'f32', value: 1e-5 },
];

test('fields that change the computation are refused by name', async () => {
  const table = {
    name: 'token_embd.weight',
    shape: [4, 16],
    dtype: 'F32',
    data: new Float32Array(64),
  } as const;
  const cases: readonly (readonly [GgufField, RegExp])[] = [
    [{ key: 'llama.expert_count', type: 'u32', value: 8 }, /"llama\.expert_count" is "8"/],
    [{ key: 'llama.rope.scaling.type', type: 'text', value: 'yarn' }, /type "yarn" is not known/],
    [
      { key: 'llama.rope.dimension_count', type: 'u32', value: 4 },
      /rope\.dimension_count" is 4 where a head has 8/,
    ],
    [{ key: 'llama.attention.head_count_kv', type: 'i32s', value: [1, 2] }, /differs from layer to layer/],
    [{ key: 'general.architecture', type: 'text', value: 'gemma' }, /architecture is "gemma"/],
    [{ key: 'split.count', type: 'u32', value: 2 }, /one of several files of a model: join them first/],
  ];
  for (const [field, expected] of cases) {
    const fields = [...FIELDS.filter(({ key }) => key !== field.key), field];
    await writeGguf(at('bad.gguf'), fields, [{ entry: table, type: 'F32' }]);
    refuses(() => openCheckpoint(at('bad.gguf')), expected);
  }
});

test.run();
