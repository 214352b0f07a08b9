import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';
import { readJson, writeJson } from '../../src/checkpoint/files.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { storedRow } from '../../src/checkpoint/rotary-rows.js';
import { SafetensorsFile, writeSafetensors } from '../../src/checkpoint/safetensors.js';
import { TorchArchive } from '../../src/checkpoint/torch-archive.js';
import { Random } from '../../src/random.js';
import { byteLevel } from '../data/tokenizers/files.js';
import { sharedTest } from '../shared.js';
import { contents, described, makeCheckpoint, SMALL } from './checkpoints.js';
import { refuses, rejects, scratchDirectory } from './scratch.js';

const test = suite('checkpoint/convert');
const at = scratchDirectory(test);

const roundTrips = [
  ['retention', 'official', 'F32'],
  ['window', 'official', 'BF16'],
  ['uneven', 'yoco', 'F64'],
  ['transformer', 'official', 'F16'],
  ['transformer', 'huggingface', 'BF16'],
  ['transformer', 'meta', 'F32'],
  ['tied', 'huggingface', 'F32'],
  ['tied', 'meta', 'F16'],
  ['qwen2', 'huggingface', 'F32'],
  ['qwen3', 'huggingface', 'BF16'],
  ['scaled', 'huggingface', 'F32'],
  ['scaled', 'meta', 'BF16'],
] as const;

const sizeOf = (directory: string): number =>
  Buffer.concat(readdirSync(directory).map((name) => readFileSync(join(directory, name)))).length;

for (const [model, format, dtype] of roundTrips) {
  test(`${model} goes to ${format} and back in ${dtype} bit for bit`, async () => {
    const source = await makeCheckpoint(at('source'), SMALL[model] ?? {}, { dtype });
    const made = await convertCheckpoint(source, at('there'), { to: format, maxShardBytes: 3000 });
    assert.is(described(at('there')).format.name, format);
    assert.equal([made.from, made.to], ['yoco', format]);
    assert.is(made.writtenBytes, sizeOf(at('there')));
    assert.equal(contents(at('there')), contents(source));
    await convertCheckpoint(at('there'), at('back'), { to: 'yoco' });
    assert.equal(contents(at('back')), contents(source));
    assert.equal(readdirSync(at()).sort(), ['back', 'source', 'there']);
  });
}

test('keeps what the source says of itself', async () => {
  const source = await makeCheckpoint(at('source'), SMALL.transformer ?? {}, { tokenizer: 'cl100k_base' });
  await convertCheckpoint(source, at('copy'), { to: 'yoco' });
  const { tokenizer, context, provenance } = described(at('copy'));
  assert.equal(
    { tokenizer, context, provenance },
    { tokenizer: 'cl100k_base', context: 512, provenance: { made: 'by a test' } },
  );
  await convertCheckpoint(source, at('hf'), { to: 'huggingface' });
  assert.is(readJson(at('hf/config.json')).max_position_embeddings, 512);
  await convertCheckpoint(source, at('official'), { to: 'official' });
  assert.is(readJson(at('official/params.json')).max_seq_len, 512);
});

test('takes tokenizer files along', async () => {
  const content = JSON.stringify(byteLevel());
  const source = await makeCheckpoint(at('source'), SMALL.transformer ?? {}, { tokenizer: 'mine.json' });
  writeFileSync(at('source/mine.json'), content);
  writeFileSync(at('source/tokenizer_config.json'), '{}');
  await convertCheckpoint(source, at('hf'), { to: 'huggingface' });
  await convertCheckpoint(at('hf'), at('back'), { to: 'yoco' });
  assert.is(described(at('back')).tokenizer, at('back/tokenizer.json'));
  assert.is(readFileSync(at('back/tokenizer.json'), 'utf8'), content);
  assert.ok(existsSync(at('back/tokenizer_config.json')));
  for (const to of ['official', 'meta'] as const) {
    await convertCheckpoint(at('hf'), at(to), { to });
    assert.is(described(at(to)).tokenizer, at(`${to}/tokenizer.json`));
  }
});

test('stores another type when asked', async () => {
  const source = await makeCheckpoint(at('source'), SMALL.retention ?? {});
  await convertCheckpoint(source, at('half'), { to: 'official', dtype: 'BF16' });
  const file = TorchArchive.open(at('half/checkpoint.pth'));
  assert.ok(file.names().every((name) => file.info(name).dtype === 'BF16'));
  file.close();
});

/** o = (x0 cos - x1 sin, x1 cos + x0 sin) for each pair of one head. */
function rotate(x: Float32Array, position: number, pairs: [number, number][]): number[] {
  const out = Array.from(x);
  for (const [index, [first, second]] of pairs.entries()) {
    const phase = position * 10000 ** (-index / pairs.length);
    const [a, b] = [x[first] ?? 0, x[second] ?? 0];
    out[first] = a * Math.cos(phase) - b * Math.sin(phase);
    out[second] = b * Math.cos(phase) + a * Math.sin(phase);
  }
  return out;
}

test('the row order of rotary conventions keeps every score', () => {
  const [heads, headDim] = [3, 8];
  const random = new Random(3);
  const [q, k] = [0, 1].map(() => random.fillNormal(new Float32Array(heads * headDim))) as [
    Float32Array,
    Float32Array,
  ];
  const reorder = (x: Float32Array, to: 'half' | 'interleaved'): Float32Array =>
    x.map((_, row) => x[storedRow(row, { headDim, to })] ?? NaN);
  assert.equal(reorder(reorder(q, 'half'), 'interleaved'), q);
  const indices = [0, 1, 2, 3];
  const interleaved = indices.map((pair): [number, number] => [2 * pair, 2 * pair + 1]);
  const half = indices.map((pair): [number, number] => [pair, pair + 4]);
  const score = (a: Float32Array, b: Float32Array, head: number, pairs: [number, number][]): number => {
    const part = (x: Float32Array): Float32Array => x.subarray(head * headDim, (head + 1) * headDim);
    const right = rotate(part(b), 5, pairs);
    return rotate(part(a), 17, pairs).reduce((sum, value, index) => sum + value * (right[index] ?? 0), 0);
  };
  for (let head = 0; head < heads; head++) {
    const before = score(q, k, head, interleaved);
    const after = score(reorder(q, 'half'), reorder(k, 'half'), head, half);
    assert.ok(Math.abs(before - after) < 1e-6, `${before} and ${after}`);
  }
});

test('formats refuse models that they cannot express', async () => {
  const yoco = await makeCheckpoint(at('yoco'), SMALL.uneven ?? {});
  const scaled = await makeCheckpoint(at('scaled'), SMALL.scaled ?? {});
  await rejects(
    convertCheckpoint(yoco, at('x'), { to: 'huggingface' }),
    /has no YOCO architecture: use --to yoco/,
  );
  await rejects(convertCheckpoint(yoco, at('x'), { to: 'meta' }), /has no YOCO architecture/);
  await rejects(convertCheckpoint(yoco, at('x'), { to: 'official' }), /cannot express crossPositions 'none'/);
  await rejects(convertCheckpoint(scaled, at('x'), { to: 'official' }), /cannot express ropeScaling/);
  assert.equal(readdirSync(at()).sort(), ['scaled', 'yoco']);
});

test('never overwrites unasked', async () => {
  const source = await makeCheckpoint(at('source'), SMALL.retention ?? {});
  mkdirSync(at('taken'));
  writeFileSync(at('taken/notes'), 'mine');
  await rejects(convertCheckpoint(source, at('taken'), { to: 'official' }), /taken is not empty/);
  await rejects(convertCheckpoint(source, source, { to: 'yoco', overwrite: true }), /is the source/);
  await rejects(
    convertCheckpoint(source, at('taken/notes'), { to: 'official' }),
    /is a file, not a directory/,
  );
  await convertCheckpoint(source, at('taken'), { to: 'official', overwrite: true });
  assert.equal(readdirSync(at('taken')).sort(), ['checkpoint.pth', 'notes', 'params.json']);
  assert.equal(readdirSync(at()).sort(), ['source', 'taken']);
});

test('a checkpoint must fit its configuration', async () => {
  const source = await makeCheckpoint(at('a'), SMALL.retention ?? {});
  const config = readJson(at('a/config.json'));
  const model = config.model as Record<string, unknown>;
  const withModel = (change: object): void => {
    writeJson(at('a/config.json'), { ...config, model: { ...model, ...change } });
  };
  withModel({ hiddenDim: 32 });
  refuses(
    () => openCheckpoint(source),
    /tensor "self_decoder\.layers\.0\.ffn\.fc1\.weight" does not fit the configuration: expected \[32, 16\], found \[24, 16\]/,
  );
  withModel({ layers: 4 });
  refuses(
    () => openCheckpoint(source),
    /tensor "cross_decoder\.layers\.1\.mixer\.q_proj\.weight" \[16, 16\] is missing/,
  );
  withModel({ selfDecoder: 'sliding-window', slidingWindow: 4 });
  refuses(
    () => openCheckpoint(source),
    /tensor "self_decoder\.layers\.0\.mixer\.g_proj\.weight" has no place/,
  );
  withModel({ heads: 5 });
  refuses(() => openCheckpoint(source), /config\.json: configuration: heads/);
  writeJson(at('a/config.json'), { ...config, model: undefined });
  refuses(() => openCheckpoint(source), /config\.json: model is missing/);
  writeFileSync(at('a/config.json'), '{');
  refuses(() => openCheckpoint(source), /config\.json: not valid JSON/);
  refuses(() => openCheckpoint(at('absent')), /there is no checkpoint directory .*absent/);
  refuses(() => openCheckpoint(at('a/config.json')), /is a file: give the directory/);
  mkdirSync(at('empty'));
  refuses(() => openCheckpoint(at('empty')), /holds no checkpoint of a known format \(yoco: /);
});

test('parameters are floating point', async () => {
  const source = await makeCheckpoint(at('a'), SMALL.retention ?? {});
  const file = SafetensorsFile.open(at('a/model.safetensors'));
  const entries = file.names().map((name) => {
    const { dtype, shape } = file.info(name);
    return {
      name,
      shape,
      dtype: name === 'layer_norm.weight' ? ('I32' as const) : dtype,
      data: file.readBytes(name),
    };
  });
  file.close();
  await writeSafetensors(at('a/model.safetensors'), entries);
  refuses(() => openCheckpoint(source), /tensor "layer_norm\.weight" holds I32, expected floating point/);
});

test('a Hugging Face model must be a plain Llama', async () => {
  const source = await makeCheckpoint(at('a'), SMALL.transformer ?? {});
  await convertCheckpoint(source, at('hf'), { to: 'huggingface' });
  const fields = readJson(at('hf/config.json'));
  const corpus: [change: object, message: RegExp][] = [
    [
      { model_type: 'gemma' },
      /config\.json: model_type is "gemma", .* \(only llama, mistral, qwen2, qwen3\)/,
    ],
    [{ hidden_act: 'gelu' }, /hidden_act is "gelu"/],
    [{ attention_bias: true }, /attention_bias is true/],
    [
      { rope_scaling: { rope_type: 'yarn', factor: 2 } },
      /rope_scaling of type "yarn" is not known \(linear, llama3\)/,
    ],
    [{ rope_scaling: { type: 'linear', factor: -2 } }, /factor must be a positive number/],
    [{ hidden_size: 'large' }, /dim must be a positive integer/],
    [{ tie_word_embeddings: 5 }, /tieEmbeddings must be true or false/],
  ];
  for (const [change, message] of corpus) {
    writeJson(at('hf/config.json'), { ...fields, ...change });
    refuses(() => openCheckpoint(at('hf')), message);
  }
  writeJson(at('hf/config.json'), {
    ...fields,
    rope_theta: undefined,
    rope_parameters: { rope_type: 'linear', rope_theta: 7, factor: 2 },
  });
  const { config } = described(at('hf'));
  assert.equal(config.architecture === 'transformer' && [config.ropeTheta, config.ropeScaling], [
    7,
    { type: 'linear', factor: 2 },
  ]);
});

test('a tied head may be stored instead of the embedding, or beside it', async () => {
  const source = await makeCheckpoint(at('a'), SMALL.tied ?? {});
  await convertCheckpoint(source, at('hf'), { to: 'huggingface' });
  const file = SafetensorsFile.open(at('hf/model.safetensors'));
  const entries = file.names().map((name) => ({ name, ...file.info(name), data: file.readBytes(name) }));
  file.close();
  const embedding = 'model.embed_tokens.weight';
  const renamed = entries.map((entry) =>
    entry.name === embedding ? { ...entry, name: 'lm_head.weight' } : entry,
  );
  for (const list of [renamed, [...renamed, ...entries.filter(({ name }) => name === embedding)]]) {
    await writeSafetensors(at('hf/model.safetensors'), list);
    assert.equal(contents(at('hf')), contents(source));
  }
});

test('a state dict may lie inside a larger one', async () => {
  const source = await makeCheckpoint(at('a'), SMALL.retention ?? {});
  await convertCheckpoint(source, at('official'), { to: 'official' });
  const file = SafetensorsFile.open(at('a/model.safetensors'));
  const entries = file
    .names()
    .map((name) => ({ name: `model.${name}`, ...file.info(name), data: file.readBytes(name) }));
  file.close();
  const extra = { name: 'optimizer.step', dtype: 'F32' as const, shape: [1], data: new Float32Array(1) };
  const { writeTorchArchive } = await import('../../src/checkpoint/torch-writer.js');
  await writeTorchArchive(at('official/checkpoint.pth'), [...entries, extra]);
  assert.equal(contents(at('official')), contents(source));
});

sharedTest(test, 'fixtures', 'official fixtures open with their params.json', (directory) => {
  for (const [name, kind] of [
    ['yoco-gret-tiny', 'gated-retention'],
    ['yoco-swa-tiny', 'sliding-window'],
  ] as const) {
    const { config, format } = described(`${directory}/${name}`);
    assert.is(format.name, 'official');
    assert.is(config.architecture === 'yoco' && config.selfDecoder, kind);
  }
  const { config } = described(`${directory}/transformer-tiny`);
  assert.is(config.architecture, 'transformer');
});

sharedTest(
  test,
  'data/models/tinystories-656k',
  'a real Hugging Face model opens and round-trips',
  async (directory) => {
    const { config, tokenizer, format } = described(directory);
    assert.is(format.name, 'huggingface');
    assert.is(tokenizer, `${directory}/tokenizer.json`);
    assert.ok(config.architecture === 'transformer' && config.tieEmbeddings && config.kvHeads === 4);
    await convertCheckpoint(directory, at('yoco'), { to: 'yoco' });
    await convertCheckpoint(at('yoco'), at('hf'), { to: 'huggingface' });
    assert.equal(contents(at('hf')), contents(directory));
    assert.equal(readFileSync(at('hf/tokenizer.json')), readFileSync(`${directory}/tokenizer.json`));
  },
);

test.run();
