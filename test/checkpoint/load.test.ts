import { readdirSync, readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UsageError } from '../../src/errors.js';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';
import { loadModel, saveModel } from '../../src/checkpoint/load.js';
import type { LoadedModel } from '../../src/checkpoint/load.js';
import { loadTokenizer } from '../../src/data/tokenizer.js';
import { startEngine } from '../../src/engines/start.js';
import { createConfig, createModel } from '../../src/model/index.js';
import type { LanguageModel } from '../../src/model/index.js';
import * as tf from '../../src/tf.js';
import { measureLosses, meanLosses } from '../../src/training/step.js';
import { windowBatch } from '../../src/training/task.js';
import { usePlainBackend } from '../plain-backend.js';
import { sharedPath, sharedTest } from '../shared.js';
import { makeCheckpoint, SMALL } from './checkpoints.js';
import { rejects, scratchDirectory } from './scratch.js';

const test = suite('checkpoint/load');
const at = scratchDirectory(test);

test.before(usePlainBackend);

const meta = { tokenizer: 'bytes', context: 64, provenance: { seed: 3 } };

function values(model: LanguageModel): [string, Float32Array][] {
  return [...model.parameters].map(([name, variable]) => [name, variable.dataSync<'float32'>().slice()]);
}

function logits(model: LanguageModel): Float32Array {
  return tf.tidy(() =>
    model
      .forward(tf.tensor2d([[1, 5, 9, 2]], [1, 4], 'int32'))
      .dataSync<'float32'>()
      .slice(),
  );
}

for (const [name, input] of Object.entries(SMALL)) {
  test(`${name}: a saved model is the same when loaded`, async () => {
    const model = createModel(createConfig(input), { seed: 3 });
    await saveModel(at('model'), model, meta);
    assert.equal(readdirSync(at()), ['model']);
    const loaded = loadModel(at('model'));
    assert.equal(values(loaded.model), values(model));
    assert.equal(loaded.config, model.config);
    const { tokenizer, context, provenance, format } = loaded;
    assert.equal({ tokenizer, context, provenance, format }, { ...meta, format: 'yoco' });
    loaded.model.dispose();
    model.dispose();
  });
}

test('saving replaces what was there as a whole, or not at all', async () => {
  const model = createModel(createConfig(SMALL.retention ?? {}), { seed: 3 });
  await saveModel(at('model'), model, meta);
  const before = readFileSync(at('model/model.safetensors'));
  const broken = { ...meta, tokenizer: at() };
  await rejects(saveModel(at('model'), model, broken), /cannot read .*not a regular file/);
  assert.equal(readFileSync(at('model/model.safetensors')), before);
  assert.equal(readdirSync(at()), ['model']);
  model.dispose();
});

test('one model gives the same logits from every layout', async () => {
  await makeCheckpoint(at('source'), SMALL.transformer ?? {});
  const model = createModel(createConfig(SMALL.transformer ?? {}), { seed: 3 });
  await saveModel(at('source'), model, meta);
  const expected = logits(model);
  model.dispose();
  for (const to of ['official', 'huggingface', 'meta'] as const) {
    await convertCheckpoint(at('source'), at(to), { to });
    const loaded = loadModel(at(to));
    assert.is(loaded.format, to);
    assert.equal(logits(loaded.model), expected);
    loaded.model.dispose();
  }
});

test('bfloat16 is widened', async () => {
  await makeCheckpoint(at('source'), SMALL.retention ?? {}, { dtype: 'BF16' });
  const { model } = loadModel(at('source'));
  const bits = new Uint32Array(
    (model.parameters.get('layer_norm.weight')?.dataSync() as Float32Array).slice().buffer,
  );
  assert.ok(bits.every((word) => (word & 0xffff) === 0));
  model.dispose();
});

function greedy({ model }: LoadedModel, prompt: Int32Array, count: number): number[] {
  const cache = model.createCache({ maxTokens: prompt.length + count });
  const next = (scores: tf.Tensor2D): number => {
    const id = tf.tidy(() => tf.argMax(scores, -1)).dataSync()[0] ?? 0;
    scores.dispose();
    return id;
  };
  const ids = [next(model.prefill(tf.tensor2d(prompt, [1, prompt.length], 'int32'), cache))];
  while (ids.length < count) ids.push(next(model.decode(tf.tensor1d([ids.at(-1) ?? 0], 'int32'), cache)));
  cache.dispose();
  return ids;
}

sharedTest(
  test,
  'data/models/tinystories-656k',
  'a real model tells its story and knows its text',
  async (path) => {
    await startEngine('cpu');
    try {
      const loaded = loadModel(path);
      const tokenizer = await loadTokenizer(loaded.tokenizer ?? '');
      const begin = tokenizer.beginOfText === null ? [] : [tokenizer.beginOfText];
      const prompt = Int32Array.from([...begin, ...tokenizer.encode('Once upon a time')]);
      const story = tokenizer.decode([...prompt, ...greedy(loaded, prompt, 60)]);
      const expected =
        ', a little girl named Lily lived in a small house with her mom, dad, and her dog, Spot, Spot, loved to play all day.';
      assert.ok(story.startsWith(`Once upon a time${expected}`), story);
      const file = sharedPath('data/text/tinystories_val_sample.txt');
      if (file !== null) {
        const text = readFileSync(file, 'utf8');
        const excerpt = text.slice(text.indexOf('Once upon a time')).slice(0, 900);
        const ids = Int32Array.from([...begin, ...tokenizer.encode(excerpt)].slice(0, 161));
        const { text: loss } = meanLosses(measureLosses(loaded.model, windowBatch(ids, 1)));
        // The value of an independent implementation in PyTorch for these 160 tokens.
        assert.ok(loss !== null && Math.abs(loss - 2.3811) < 2e-4, `loss ${String(loss)}`);
      }
      loaded.model.dispose();
    } finally {
      await usePlainBackend();
    }
  },
);

sharedTest(
  test,
  'fixtures/yoco-gret-tiny',
  'checkpoint.pth loads into the model that model.safetensors makes',
  (path) => {
    const { model, format } = loadModel(path);
    assert.is(format, 'official');
    const first = values(model);
    model.dispose();
    const other = loadModel(path.replace('gret-tiny', 'gret-long'));
    assert.equal(values(other.model), first);
    other.model.dispose();
  },
);

test('what a model needs must be there', () => {
  assert.throws(
    () => loadModel(at('absent')),
    (error: Error) => error instanceof UsageError,
  );
});

test.run();
