import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Engine } from '../../src/engines/engine.js';
import { OutOfMemoryError, UsageError } from '../../src/errors.js';
import { createConfig, createModel, type LanguageModel } from '../../src/model/index.js';
import { bytesOfBatch } from '../../src/profiling/batch-size.js';
import { measureEndToEnd, type EndToEndWork } from '../../src/profiling/end-to-end.js';
import { profileEndToEnd, type BatchChange } from '../../src/profiling/profile-end-to-end.js';
import { limits } from '../../src/ops/limits.js';
import * as tf from '../../src/tf.js';
import { stubEngine } from '../evaluation/stub-model.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('throughput of prefill and generation together');
test.before(usePlainBackend);

const SHAPE = { dim: 16, layers: 2, hiddenDim: 16, heads: 2, vocabSize: 11 };
const CONFIG = createConfig({ ...SHAPE, architecture: 'yoco' });

const WORK: EndToEndWork = {
  promptTokens: 40,
  generatedTokens: 9,
  batch: 3,
  seed: 1,
  warmUp: 1,
  repetitions: 2,
};

/** A model that counts what is asked of it. */
function countingModel(): { model: LanguageModel; counts: { prompts: number[]; steps: number[] } } {
  const model = createModel(CONFIG, { seed: 1 });
  const counts = { prompts: [] as number[], steps: [] as number[] };
  const prefill = model.prefill.bind(model);
  const decode = model.decode.bind(model);
  model.prefill = (tokens, cache, options) => {
    counts.prompts.push(tokens.size);
    return prefill(tokens, cache, options);
  };
  model.decode = (tokens, cache) => {
    counts.steps.push(cache.length);
    return decode(tokens, cache);
  };
  return { model, counts };
}

test('every prompt is computed, and every generated token but the first is a step', async () => {
  const before = tf.memory().numTensors;
  const { model, counts } = countingModel();
  const figures = await measureEndToEnd(model, stubEngine, WORK);
  assert.equal(counts.prompts, [3 * 40, 3 * 40, 3 * 40], 'a warm-up and two runs');
  assert.is(counts.steps.length, 1 + 2 * 8);
  assert.equal(counts.steps.slice(-8), [40, 41, 42, 43, 44, 45, 46, 47]);
  assert.is(figures.sequences, 3);
  assert.is(figures.estimated, false);
  assert.equal([figures.prefilledTokens, figures.decodedSteps, figures.repetitions], [40, 8, 2]);
  assert.is(figures.tokensPerSecond, (3 * 9) / figures.secondsMedian);
  assert.is(figures.decodeTokensPerSecond, (3 * 8) / figures.decodeSeconds);
  assert.ok(figures.secondsMedian > figures.decodeSeconds);
  model.dispose();
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
});

test('samples are estimates: some chunks, and steps in the middle of the generation', async () => {
  const before = tf.memory().numTensors;
  const { model, counts } = countingModel();
  const { chunkBytes } = limits;
  // Chunks of 256 tokens: the prompts have three and five.
  limits.chunkBytes = 256 * 4 * (2 * SHAPE.dim + 3 * SHAPE.hiddenDim);
  try {
    const work = { ...WORK, promptTokens: 700, batch: 2, repetitions: 1 };
    const steps = await measureEndToEnd(model, stubEngine, { ...work, sampleSteps: 2 });
    assert.equal([steps.estimated, steps.decodedSteps, steps.prefilledTokens], [true, 2, 700]);
    assert.equal(counts.steps.slice(-3), [702, 703, 704], 'one not timed, two in the middle');
    const five = { ...work, promptTokens: 1212 };
    const chunks = await measureEndToEnd(model, stubEngine, { ...five, sampleChunks: 2 });
    assert.is(chunks.chunkTokens, 256);
    assert.equal([chunks.estimated, chunks.prefilledTokens, chunks.peakBytes], [true, 256 + 256 + 188, null]);
  } finally {
    limits.chunkBytes = chunkBytes;
  }
  model.dispose();
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
});

test('a single generated token comes from the prefill', async () => {
  const { model } = countingModel();
  const figures = await measureEndToEnd(model, stubEngine, { ...WORK, generatedTokens: 1 });
  assert.equal([figures.decodedSteps, figures.decodeSeconds, figures.decodeTokensPerSecond], [0, 0, null]);
  assert.is(figures.estimated, false);
  model.dispose();
});

test('an attempt that runs out of memory leaves no tensors', async () => {
  const { model } = countingModel();
  const before = tf.memory().numTensors;
  let calls = 0;
  const decode = model.decode.bind(model);
  model.decode = (tokens, cache) => {
    if (++calls === 4) throw new OutOfMemoryError('out of GPU memory');
    return decode(tokens, cache);
  };
  try {
    await measureEndToEnd(model, stubEngine, WORK);
    assert.unreachable();
  } catch (error) {
    assert.instance(error, OutOfMemoryError);
  }
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
  model.dispose();
});

const choice = { name: 'small', config: CONFIG };

test('auto takes what fits by formula and says so; a fixed batch that does not fit is a failed cell', async () => {
  const engine: Engine = { ...stubEngine, availableBytes: () => bytesOfBatch(CONFIG, 64, 3, 4) / 0.9 + 1 };
  const told: BatchChange[] = [];
  const { cells, derived } = await profileEndToEnd({
    ...{ models: [choice], engine, contexts: [64], warmUp: 1, generate: 3 },
    batches: [1, 'auto', 400],
    onBatch: (change) => told.push(change),
  });
  assert.equal(
    cells.map(({ batch, sequences, status }) => [batch, sequences, status]),
    [
      [1, 1, 'ok'],
      ['auto', 3, 'ok'],
      [400, null, 'error'],
    ],
  );
  assert.match(cells[2]?.error ?? '', /context 64 of small yoco .* for 400 sequences needs \d+ bytes/);
  assert.equal(told, [{ choice, context: 64, batch: 3, tooMany: null }]);
  assert.equal(cells.slice(0, 2).map(({ promptTokens }) => promptTokens), [61, 61]); // prettier-ignore
  assert.is(derived[0]?.schema.name, 'profile-throughput-end-to-end-ratio');
});

test('auto plans for a device of a given size, and takes fewer where tensors grew beyond it', async () => {
  const memory = { liveBytes: 100, reservedBytes: 0, peakBytes: 0 };
  const memoryBytes = 100 + bytesOfBatch(CONFIG, 64, 3, 4) / 0.9 + 1;
  const told: BatchChange[] = [];
  const plan = { models: [choice], contexts: [64], warmUp: 0, generate: 2, batches: ['auto'] as const };
  const measured = (peaks: number[]) =>
    profileEndToEnd({
      ...{ ...plan, memoryBytes },
      engine: {
        ...stubEngine,
        availableBytes: () => 1e12,
        memory: () => memory,
        synchronize: () => Promise.resolve(),
        resetPeak: () => {
          memory.peakBytes = peaks.shift() ?? 0;
        },
      },
      onBatch: (change) => told.push(change),
    });
  const fitting = await measured([]);
  assert.is(fitting.cells[0]?.sequences, 3);
  const grown = await measured([memoryBytes + 1, memoryBytes]);
  assert.is(grown.cells[0]?.sequences, 2);
  assert.equal(
    told.map(({ batch, tooMany }) => [batch, tooMany]),
    [
      [3, null],
      [3, null],
      [2, 3],
    ],
  );
  const refused = await profileEndToEnd({ ...plan, engine: stubEngine, memoryBytes: 100 });
  assert.match(refused.cells[0]?.error ?? 'none', /needs .* beside the weights, of 100 B$/);
});

test('half of a short context is generated; one without room for a prompt is refused', async () => {
  const plan = { models: [choice], engine: stubEngine, warmUp: 0 };
  const { cells } = await profileEndToEnd({ ...plan, contexts: [9] });
  assert.equal([cells[0]?.promptTokens, cells[0]?.generatedTokens], [5, 4]);
  for (const options of [{ contexts: [1] }, { contexts: [64], generate: 64 }]) {
    try {
      await profileEndToEnd({ ...plan, ...options });
      assert.unreachable();
    } catch (error) {
      assert.instance(error, UsageError);
    }
  }
});

test.run();
