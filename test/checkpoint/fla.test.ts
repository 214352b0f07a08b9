/**
 * YOCO of flash-linear-attention against its own code: `fla/reference.json` has the parameters that it lists and the logits that it gives.
 * `fla/generate.py` makes them again, and reads what is written here, where its packages are (YOCO_PYTHON names a Python).
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';
import { writeJson } from '../../src/checkpoint/files.js';
import { loadModel } from '../../src/checkpoint/load.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { openSafetensors } from '../../src/checkpoint/sharded.js';
import { writeSafetensors } from '../../src/checkpoint/safetensors.js';
import { RunError, UsageError } from '../../src/errors.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { skipBecause } from '../skip.js';
import { makeCheckpoint, SMALL } from './checkpoints.js';
import { scratchDirectory } from './scratch.js';

interface Model {
  name: string;
  config: Record<string, unknown> & {
    self_decoder_attn: Record<string, unknown>;
    cross_decoder_attn: Record<string, unknown>;
  };
  shapes: Record<string, number[]>;
  /** Which logits are kept: every so many-th. */
  every: number;
  logits: number[];
}

interface Reference {
  time: number;
  models: Model[];
}

const folder = fileURLToPath(new URL('fla/', import.meta.url));
const read = (file: string): Reference => JSON.parse(readFileSync(file, 'utf8')) as Reference;
const { time, models } = read(join(folder, 'reference.json'));
const TOLERANCE = 1e-4;

const test = suite('checkpoint/fla');
const at = scratchDirectory(test);
test.before(usePlainBackend);

/** As in generate.py. */
function wave(seed: number, shape: readonly number[], scale: number, shift: number): Float32Array {
  return Float32Array.from(
    { length: tf.util.sizeFromShape([...shape]) },
    (_, i) => shift + scale * Math.sin(12.9898 * seed + 78.233 * Math.sin(0.618 * i + seed)),
  );
}

/** A directory as fla saves it. */
async function save(name: string, { config, shapes }: Model, changes: object = {}): Promise<string> {
  mkdirSync(at(name));
  writeJson(join(at(name), 'config.json'), { ...config, ...changes });
  const entries = Object.entries(shapes).map(([name, shape], seed) => {
    const isNorm = name.endsWith('norm.weight');
    const data = wave(seed, shape, isNorm ? 0.3 : 0.5, isNorm ? 1 : 0);
    return { name, shape, dtype: 'F32', data } as const;
  });
  await writeSafetensors(join(at(name), 'model.safetensors'), entries);
  return at(name);
}

function logits(directory: string): Float32Array {
  const { model } = loadModel(directory);
  const ids = Int32Array.from({ length: time }, (_, i) => (i * i * 7 + 3 * i) % model.config.vocabSize);
  const scores = tf.tidy(() => model.forward(tf.tensor2d(ids, [1, time], 'int32')).dataSync<'float32'>());
  model.dispose();
  return scores;
}

function compare(found: ArrayLike<number>, expected: ArrayLike<number>, every = 1): void {
  assert.is(Math.ceil(found.length / every), expected.length);
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs((found[i * every] ?? NaN) - (expected[i] ?? NaN));
    assert.ok(error <= TOLERANCE, `logit ${i * every}: ${found[i * every]} for ${expected[i]}`);
  }
}

/** Stored tensors by name, as bytes. */
function stored(directory: string): Record<string, string> {
  const file = openSafetensors(directory);
  const bytes = file.names().map((name) => [name, Buffer.from(file.readBytes(name)).toString('hex')]);
  file.close();
  return Object.fromEntries(bytes) as Record<string, string>;
}

for (const item of models) {
  test(`${item.name}: logits are fla's, and converting there and back keeps every bit`, async () => {
    const directory = await save('given', item);
    assert.is(openCheckpoint(directory).format.name, 'fla');
    compare(logits(directory), item.logits, item.every);
    await convertCheckpoint(directory, at('ours'), { to: 'yoco' });
    compare(logits(at('ours')), item.logits, item.every);
    await convertCheckpoint(at('ours'), at('theirs'), { to: 'fla' });
    assert.equal(stored(at('theirs')), stored(directory));
    compare(logits(at('theirs')), logits(directory));
    assert.is(openCheckpoint(at('theirs')).context, 2048);
  });
}

const [RETENTION, , DELTA, WINDOW] = models as [Model, Model, Model, Model];

/** One field of a part of the configuration. */
function changed({ config }: Model, part: 'self' | 'cross', fields: object): object {
  const name = `${part}_decoder_attn` as const;
  return { [name]: { ...config[name], ...fields } };
}

test('what YOCO here does not have is refused by name', async () => {
  const cases: [Model, object, RegExp][] = [
    [RETENTION, { hidden_act: 'powlu' }, /hidden_act is "powlu".*only "swish"/],
    [RETENTION, { attnres_block_size: 4 }, /attnres_block_size is 4/],
    [
      RETENTION,
      changed(RETENTION, 'self', { gate_logit_normalizer: 8 }),
      /gate_logit_normalizer is 8.*only 16/,
    ],
    [RETENTION, changed(RETENTION, 'self', { rope_theta: 5e5 }), /θ 500000 \(yoco\).*different frequencies/],
    [
      RETENTION,
      changed(RETENTION, 'cross', { rope_inv_freq: 'fla' }),
      /θ 10000 \(fla\) and heads of 6: these/,
    ],
    [RETENTION, changed(RETENTION, 'cross', { rope_inv_freq: 'ntk' }), /rope_inv_freq/],
    [RETENTION, changed(RETENTION, 'cross', { qkv_bias: true }), /cross_decoder_attn\.qkv_bias is true/],
    [RETENTION, changed(RETENTION, 'cross', { qk_norm: true }), /cross_decoder_attn\.qk_norm is true/],
    [RETENTION, changed(RETENTION, 'cross', { num_kv_heads: 3 }), /num_heads \(4\) must be a multiple/],
    [DELTA, changed(DELTA, 'self', { use_gate: false }), /use_gate is false/],
    [DELTA, changed(DELTA, 'self', { allow_neg_eigval: true }), /allow_neg_eigval is true/],
    [DELTA, changed(DELTA, 'self', { num_v_heads: 4 }), /num_v_heads is 4.*only 2/],
    [WINDOW, changed(WINDOW, 'self', { qkv_bias: true }), /self_decoder_attn\.qkv_bias is true/],
    [WINDOW, changed(WINDOW, 'cross', { rope_inv_freq: 'yoco' }), /different frequencies/],
  ];
  for (const [index, [model, changes, line]] of cases.entries()) {
    const directory = await save(`refused-${index}`, model, changes);
    assert.throws(
      () => openCheckpoint(directory),
      (error: Error) =>
        error instanceof RunError && line.test(error.message) && error.message.includes('config.json'),
      `case ${index}`,
    );
  }
});

test('what flash-linear-attention does not have is refused', async () => {
  const cases = { uneven: /no crossPositions 'none'/, transformer: /no YOCO of the layout/ };
  for (const [name, line] of Object.entries(cases)) {
    const ours = await makeCheckpoint(at(name), SMALL[name] ?? {});
    try {
      await convertCheckpoint(ours, at(`${name}-fla`), { to: 'fla' });
      assert.unreachable(name);
    } catch (error) {
      assert.instance(error, UsageError);
      assert.match((error as Error).message, line);
    }
  }
});

const python = process.env.YOCO_PYTHON ?? 'python3';
const hasPackages =
  spawnSync(python, ['-c', 'import torch, triton, transformers, fla.models.yoco']).status === 0;
const generate = (...words: string[]): string =>
  execFileSync(python, [join(folder, 'generate.py'), ...words], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });

if (!hasPackages) {
  skipBecause(
    `${python} lacks torch, triton, transformers or flash-linear-attention`,
    test,
    'with fla itself',
  );
} else {
  test('the committed numbers are those that fla gives', () => {
    generate(at('again.json'));
    for (const [index, { shapes, logits }] of read(at('again.json')).models.entries()) {
      assert.equal(shapes, models[index]?.shapes);
      compare(logits, models[index]?.logits ?? []);
    }
  });

  test('we read what fla saves, and fla reads what we write', async () => {
    generate('save', at('saved'));
    const written = models.map((_, index) => at(`written-${index}`));
    const expected: Float32Array[] = [];
    for (const [index, { every, logits: wanted }] of models.entries()) {
      const saved = join(at('saved'), String(index));
      await convertCheckpoint(saved, at(`ours-${index}`), { to: 'yoco' });
      await convertCheckpoint(at(`ours-${index}`), written[index] ?? '', { to: 'fla' });
      expected.push(logits(saved));
      compare(expected[index] ?? [], wanted, every);
    }
    const found = JSON.parse(generate('logits', ...written)) as number[][];
    for (const [index, values] of expected.entries()) compare(found[index] ?? [], values);
  });
}

test.run();
