/** Sequences of single documents, and mixtures of sources. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadTokenizer } from '../../src/data/tokenizer.js';
import { Random } from '../../src/random.js';
import { buildTask } from '../../src/training/build-task.js';
import { createRecipe, type RecipeInput } from '../../src/training/recipe.js';
import { GradientSum } from '../../src/training/step.js';
import type { Batch, TrainingTask } from '../../src/training/task.js';
import { rejects, scratchDirectory } from '../checkpoint/scratch.js';
import { CASES, SHAPE, testModel } from '../model/cases.js';
import { usePlainBackend } from '../plain-backend.js';
import { trainSmall } from './small-run.js';
import type { TrainProgress } from '../../src/training/run-training.js';
import * as tf from '../../src/tf.js';

const test = suite('training/documents');
const at = scratchDirectory(test);
const tokenizer = await loadTokenizer('bytes');
test.before(usePlainBackend);

const jsonl = (name: string, texts: readonly string[]): string => {
  writeFileSync(at(name), texts.map((text) => JSON.stringify({ text })).join('\n'));
  return at(name);
};

async function taskOf(input: RecipeInput): Promise<TrainingTask> {
  return await buildTask(
    createRecipe({ steps: 8, batch: 4, length: 32, evalTokens: 64, ...input }),
    tokenizer,
  );
}

/** Rows of a batch, each alone and without its padding, with the weights that it has in the batch. */
function alone({ rows, length, tokens, targets, weights }: Batch): Batch[] {
  return Array.from({ length: rows }, (_, row) => {
    const all = weights?.subarray(row * length, (row + 1) * length) ?? new Float32Array(0);
    const count = all.filter((weight) => weight > 0).length;
    const part = (ids: Int32Array): Int32Array => ids.slice(row * length, row * length + count);
    return {
      ...{ rows: 1, length: count, tokens: part(tokens), targets: part(targets), positions: null },
      ...{ weights: all.slice(0, count), answers: null },
    };
  });
}

for (const [name, input] of Object.entries(CASES)) {
  test(`${name}: losses and gradients of padded documents are those of the documents alone`, () => {
    const random = new Random(name);
    const counts = [7, 1, 4];
    const length = 7;
    const ids = (): Int32Array => Int32Array.from({ length: 21 }, () => random.below(SHAPE.vocabSize));
    const weights = new Float32Array(21);
    counts.forEach((count, row) => weights.fill(1 / 12, row * length, row * length + count));
    const batch: Batch = {
      ...{ rows: 3, length, tokens: ids(), targets: ids(), positions: null, weights, answers: null },
      filled: 12,
    };
    const model = testModel(input);
    const together = new GradientSum(model, { batches: 1 });
    together.add(batch);
    const apart = new GradientSum(model, { batches: 1 });
    for (const document of alone(batch)) apart.add(document);
    const [found, expected] = [together.readLosses(), apart.readLosses()];
    assert.is(found.textTargets, 12);
    assert.ok(Math.abs(found.text - expected.text) < 1e-4);
    for (const [parameter, gradient] of together.gradients) {
      const expected = apart.gradients.get(parameter)?.dataSync() ?? [];
      const scale = Math.max(1e-3, ...Array.from(expected, Math.abs));
      gradient.dataSync().forEach((value, i) => {
        assert.ok(Math.abs(value - (expected[i] ?? NaN)) < 1e-4 * scale, `${parameter}[${i}]`);
      });
    }
    tf.dispose([...together.gradients.values(), ...apart.gradients.values()]);
    model.dispose();
  });
}

test('batches of documents count their tokens, not the padding', async () => {
  const data = [
    jsonl(
      'a.jsonl',
      Array.from({ length: 30 }, (_, i) => 'x'.repeat(3 + 2 * i)),
    ),
  ];
  const task = await taskOf({ data, documents: 'apart', heldOut: [at('a.jsonl')] });
  const batch = task.next(0);
  const filled = batch.weights?.filter((weight) => weight > 0).length;
  assert.is(batch.filled, filled);
  assert.ok(Math.abs((batch.weights?.reduce((sum, weight) => sum + weight, 0) ?? 0) - 1) < 1e-5);
  assert.equal(
    task.progress().map(({ tokens, share }) => [tokens, share]),
    [[filled, 1]],
  );
  await rejects(taskOf({ data, task: 'needle', length: 400, documents: 'apart' }), /are of the task text/);
});

for (const documents of ['joined', 'apart'] as const) {
  test(`${documents}: a mixture has the shares asked for, reports its epochs and resumes exactly`, async () => {
    const few = jsonl(
      'few.jsonl',
      Array.from({ length: 6 }, (_, i) => 'a'.repeat(20 + 9 * i)),
    );
    const many = jsonl(
      'many.jsonl',
      Array.from({ length: 90 }, (_, i) => 'b'.repeat(10 + i)),
    );
    const heldOut = [`few=${few}`, `many=${many}`];
    const input = { documents, heldOut, data: [`few=${few}:3`, `many=${many}:1`] };
    const task = await taskOf(input);
    const batches = Array.from({ length: 40 }, () => task.next(0));
    const targets = batches.flatMap(({ targets, weights }) =>
      [...targets].filter((_, i) => weights === null || weights[i] !== 0),
    );
    const share =
      targets.filter((id) => id === 97).length / targets.filter((id) => id === 97 || id === 98).length;
    assert.ok(Math.abs(share - 0.75) < 0.03, String(share));
    const [a, b] = task.progress();
    assert.equal([a?.source, a?.share, b?.source, b?.share], ['few', 0.75, 'many', 0.25]);
    assert.ok(a !== undefined && b !== undefined && a.epochs > 5 * b.epochs && b.epochs > 0);
    assert.is(a.tokens + b.tokens, targets.length);
    assert.equal(
      task.sources.map(({ name }) => name),
      ['few', 'many'],
    );
    const state = JSON.parse(JSON.stringify(task.state())) as never;
    const resumed = await taskOf(input);
    resumed.restore(state);
    for (let i = 0; i < 20; i++) assert.equal(resumed.next(0), task.next(0));
    assert.equal(resumed.progress(), task.progress());
    const unweighted = await taskOf({ ...input, data: heldOut });
    assert.ok((unweighted.progress()[0]?.share ?? 1) < 0.1);
    await rejects(taskOf({ ...input, heldOut: [`few=${few}:2`] }), /held-out text 'few' has a weight/);
  });
}

test('a run on a mixture, documents apart, ends the same when it is interrupted', async () => {
  const few = jsonl(
    'few.jsonl',
    Array.from({ length: 8 }, (_, i) => 'the sea '.repeat(1 + i)),
  );
  const many = jsonl(
    'many.jsonl',
    Array.from({ length: 40 }, (_, i) => 'a whale and a ship '.repeat(1 + (i % 5))),
  );
  const recipe = {
    ...{ data: [`few=${few}:1`, `many=${many}:1`], heldOut: [`few=${few}`, `many=${many}`] },
    ...{ documents: 'apart' as const, longDocuments: 2 },
  };
  const read = (run: string): string[] =>
    ['train.csv', 'held-out.csv', 'checkpoints/step-00000010/model.safetensors'].map((name) =>
      readFileSync(at(`${run}/${name}`)).toString('hex'),
    );
  await trainSmall(at('whole'), few, { recipe });
  const controller = new AbortController();
  const onProgress = ({ step }: TrainProgress): void => {
    if (step.step === 4) controller.abort();
  };
  rmSync(at('run'), { recursive: true, force: true });
  await trainSmall(at('run'), few, { recipe, signal: controller.signal, onProgress });
  await trainSmall(at('run'), few, { recipe });
  assert.equal(read('run'), read('whole'));
});

test.run();
