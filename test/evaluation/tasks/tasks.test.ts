import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadChoiceTask } from '../../../src/data/tasks/choice-tasks.js';
import { loadTokenizer } from '../../../src/data/tokenizer.js';
import { choiceTables } from '../../../src/evaluation/tasks/choice.js';
import { runTasks } from '../../../src/evaluation/tasks/run.js';
import { scoreTask, type ItemResult } from '../../../src/evaluation/tasks/score.js';
import { RunError } from '../../../src/errors.js';
import type { Row } from '../../../src/results/schema.js';
import { collectProvenance } from '../../../src/results/provenance.js';
import * as tf from '../../../src/tf.js';
import { rejects } from '../../checkpoint/scratch.js';
import { usePlainBackend } from '../../plain-backend.js';
import { stubCandidate, stubEngine, StubModel } from '../stub-model.js';

const test = suite('evaluation/tasks');

let directory = '';
test.before(async () => {
  await usePlainBackend();
  directory = mkdtempSync(join(tmpdir(), 'yoco-tasks-run-'));
  const write = (file: string, items: object[]): void => {
    writeFileSync(join(directory, file), items.map((item) => JSON.stringify(item)).join('\n'));
  };
  const choices = ['a', 'bcdefghijklmnopq'];
  write(
    'piqa.jsonl',
    Array.from({ length: 40 }, (_, i) => ({ query: `Q${i}`, choices, gold: i % 2 })),
  );
  write('winogrande.jsonl', [
    { context_options: ['The x', 'The y'], continuation: 'z', gold: 1 },
    { context_options: ['No x', 'No y'], continuation: 'z', gold: 0 },
  ]);
  write('lambada.jsonl', [
    { context: 'say abc', continuation: 'def' },
    { context: 'say abc', continuation: 'dex' },
  ]);
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

async function score(model: StubModel, name: string, shots = 0): Promise<ItemResult[]> {
  const results: ItemResult[] = [];
  const task = loadChoiceTask(name, directory, { shots });
  const options = { limit: Infinity, isKnown: () => false };
  for await (const result of scoreTask(model, await loadTokenizer('bytes'), task, options))
    results.push(result);
  return results;
}

/** Every letter is followed by the next one in the alphabet, but c by a space and a space by d. */
const alphabet = (): StubModel => {
  const special = new Map([
    [99, 32],
    [32, 100],
  ]);
  return new StubModel(264, (context) => special.get(context.at(-1) ?? 0) ?? (context.at(-1) ?? 0) + 1);
};

test('accuracy takes the likeliest option, normalised accuracy the likeliest per character', async () => {
  const model = new StubModel(264);
  const [result] = await score(model, 'piqa');
  const prompt = [...Buffer.from('Q0\nAnswer:')];
  const likelihood = (text: string): number => {
    let sum = 0;
    const ids = [...Buffer.from(text)];
    for (const [at, id] of ids.entries()) sum += model.logProbability([...prompt, ...ids.slice(0, at)], id);
    return sum;
  };
  const [short, long] = [likelihood(' a'), likelihood(' bcdefghijklmnopq')];
  assert.is(result?.prediction, 0);
  assert.ok(short > long);
  assert.is(result?.normalizedPrediction, short / 1 > long / 16 ? 0 : 1);
  assert.is(result?.normalizedPrediction, 1, 'the long one has the higher likelihood per character');
  assert.ok(Math.abs((result?.logLikelihoods[0] ?? 0) - short) < 1e-4);
  assert.ok(Math.abs((result?.logLikelihoods[1] ?? 0) - long) < 1e-4);
});

test('Winogrande compares one ending after two contexts', async () => {
  // The ending is certain after "y " and unlikely otherwise.
  const model = new StubModel(264, (context) =>
    context.at(-1) === 32 && context.at(-2) === 121 ? 122 : context.at(-1) === 32 ? 65 : 32,
  );
  const results = await score(model, 'winogrande');
  assert.equal(
    results.map(({ prediction, correct, normalizedCorrect }) => [prediction, correct, normalizedCorrect]),
    [
      [1, true, null],
      [1, false, null],
    ],
  );
});

test('LAMBADA counts a word if greedy decoding gives all of it', async () => {
  const results = await score(alphabet(), 'lambada');
  assert.equal(
    results.map(({ correct }) => correct),
    [true, false],
  );
});

test('tables: one row per task and their average, errors, perplexity, comparison and resume', async () => {
  const tasks = ['piqa', 'winogrande', 'lambada'].map((name) => loadChoiceTask(name, directory));
  const bytes = await loadTokenizer('bytes');
  const models = [new StubModel(264), alphabet()];
  const run = async (out: string, stopAfter = Infinity): Promise<string[]> => {
    let left = stopAfter;
    const writers = await runTasks({
      tasks,
      tables: choiceTables,
      settings: { shots: 0 },
      note: () => undefined,
      candidates: models.map((model, index) => stubCandidate(`m${index}`, model, bytes)),
      directory: join(directory, out),
      resume: true,
      engine: stubEngine,
      provenance: collectProvenance({ command: ['eval'], flags: {} }),
      onItem: () => {
        if (--left === 0) throw new Error('killed');
      },
    });
    for (const writer of writers) writer.close();
    return ['eval.csv', 'eval-items.csv'].map((file) => readFileSync(join(directory, out, file), 'utf8'));
  };
  const [summary = '', items = ''] = await run('whole');
  const lines = summary.trim().split('\n');
  const header = lines[0]?.split(',') ?? [];
  const cell = (model: string, task: string, column: string): string => {
    const line = lines.find((text) => text.startsWith(`${model},yoco,gated-retention,${task},`));
    return line?.split(',')[header.indexOf(column)] ?? '';
  };
  assert.is(lines.length, 1 + 2 * 4);
  assert.is(items.trim().split('\n').length, 1 + 2 * 44);
  assert.is(cell('m0', 'piqa', 'questions'), '40');
  assert.is(cell('m0', 'piqa', 'accuracy'), '0.5');
  assert.is(cell('m0', 'piqa', 'chance'), '0.5');
  assert.is(cell('m0', 'piqa', 'accuracy_normalized'), '0.5');
  assert.is(cell('m0', 'winogrande', 'accuracy_normalized'), '');
  assert.is(cell('m1', 'lambada', 'accuracy'), '0.5');
  assert.is(cell('m1', 'lambada', 'chance'), '');
  assert.ok(Number(cell('m1', 'lambada', 'perplexity')) > 1);
  assert.is(cell('m0', 'piqa', 'perplexity'), '');
  const mean =
    ['piqa', 'winogrande', 'lambada'].reduce((sum, task) => sum + Number(cell('m1', task, 'accuracy')), 0) /
    3;
  assert.ok(Math.abs(Number(cell('m1', 'average', 'accuracy')) - mean) < 1e-5);
  assert.is(cell('m0', 'average', 'difference'), '');
  const difference = Number(cell('m1', 'lambada', 'accuracy')) - Number(cell('m0', 'lambada', 'accuracy'));
  assert.is(Number(cell('m1', 'lambada', 'difference')), difference);
  try {
    await run('stopped', 37);
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /killed/);
  }
  assert.equal(await run('stopped'), [summary, items]);
});

/** A model with one damaged weight: all its logits are NaN. */
/** Its logits are not finite, and it loses tensors. */
class BrokenModel extends StubModel {
  override row(context: readonly number[]): number[] {
    tf.keep(tf.scalar(1));
    return super.row(context).map((value) => value * NaN);
  }
}

interface Changes {
  readonly models?: StubModel[];
  readonly maxContext?: number;
  readonly trainedContext?: number | null;
  readonly availableBytes?: number;
  readonly shots?: number;
}

/** The rows of `eval.csv` and `eval-items.csv` of two tasks, and the remarks. */
async function evaluate(
  out: string,
  { models = [], maxContext, trainedContext = null, availableBytes = 2 ** 40, shots = 0 }: Changes,
): Promise<{ summary: Row[]; items: Row[]; notes: string[] }> {
  const bytes = await loadTokenizer('bytes');
  const notes: string[] = [];
  const writers = await runTasks({
    tasks: ['piqa', 'lambada'].map((name) => loadChoiceTask(name, directory, { shots })),
    tables: choiceTables,
    settings: { shots },
    note: (line) => notes.push(line),
    candidates: models.map((model, index) => ({
      ...stubCandidate(`m${index}`, model, bytes),
      trainedContext,
    })),
    directory: join(directory, out),
    resume: true,
    maxContext,
    engine: { ...stubEngine, availableBytes: () => availableBytes },
    provenance: collectProvenance({ command: ['eval'], flags: {} }),
    onItem: () => undefined,
  });
  for (const writer of writers) writer.close();
  const [summary, items] = writers;
  return { summary: summary.rows, items: items.rows, notes };
}

test('logits that are not finite are failed cells, which leave nothing, never wrong answers', async () => {
  const before = tf.memory().numTensors;
  const { summary, items } = await evaluate('nan', { models: [new StubModel(264), new BrokenModel(264)] });
  const [good, broken] = ['m0', 'm1'].map((name) => summary.filter(({ model }) => model === name));
  assert.ok(good?.every(({ status }) => status === 'ok'));
  assert.is(broken?.length, 3);
  for (const row of broken ?? []) {
    assert.is(row.status, 'error');
    assert.match(String(row.error), /logits are not finite/);
    assert.is(row.accuracy, undefined);
  }
  const failed = items.filter(({ model }) => model === 'm1');
  assert.is(failed.length, 42);
  assert.ok(failed.every((row) => row.status === 'error' && row.correct === undefined));
  assert.is(tf.memory().numTensors, before);
});

test('a model after one that failed is compared with nothing', async () => {
  const { summary } = await evaluate('nan-first', { models: [new BrokenModel(264), new StubModel(264)] });
  const rows = summary.filter(({ model }) => model === 'm1');
  assert.ok(rows.every(({ status, difference }) => status === 'ok' && difference === null));
});

test('a longest prompt that no item fits is refused; items that are too long are counted', async () => {
  const models = [new StubModel(264)];
  const short = /^--max-context 5: no question fits, the shortest has 11 tokens \(m0\)$/;
  await rejects(evaluate('short', { models, maxContext: 5 }), short);
  const trained =
    /^m0 was trained on 5 tokens, in which no question fits: the shortest has 11; --max-context allows more$/;
  await rejects(evaluate('short', { models, trainedContext: 5 }), trained);
  const { notes } = await evaluate('short', { models, maxContext: 12 });
  assert.ok(notes.some((line) => line.includes('40 questions were longer than a prompt may be')));
});

test('a model beyond the memory is refused before work, or is failed rows beside one that fits', async () => {
  try {
    await evaluate('memory', { models: [new StubModel(264)], availableBytes: 1000 });
    assert.unreachable();
  } catch (error) {
    assert.instance(error, RunError);
    assert.match((error as Error).message, /m0 .* needs \d+ bytes .*, available are 1000 bytes/);
  }
  const small = new StubModel(264);
  const large = new StubModel(264 * 64);
  const { summary, notes } = await evaluate('memory', { models: [small, large], availableBytes: 2e7 });
  assert.equal(
    summary.map(({ model, task, status }) => [model, task, status]),
    ['m0', 'm1'].flatMap((model) =>
      ['piqa', 'lambada', 'average'].map((task) => [model, task, model === 'm0' ? 'ok' : 'error']),
    ),
  );
  assert.is(large.consumed + large.lossTokens, 0);
  assert.ok(notes.some((line) => line.startsWith('left out: m1')));
});

test('examples stand before every item and are consumed once; the table says how many fitted', async () => {
  for (const name of ['piqa', 'lambada_openai'])
    rmSync(join(directory, `${name}_train.jsonl`), { force: true });
  const train = (file: string, items: object[]): void => {
    writeFileSync(join(directory, file), items.map((item) => JSON.stringify(item)).join('\n'));
  };
  train(
    'piqa_train.jsonl',
    [1, 2, 3].map((i) => ({ query: `T${i}`, choices: ['no', 'yes'], gold: 1 })),
  );
  train(
    'lambada_train.jsonl',
    [1, 2].map((i) => ({ context: `word ${i}`, continuation: 'end' })),
  );
  const model = new StubModel(264);
  const { summary } = await evaluate('shots', { models: [model], shots: 2 });
  assert.equal(
    summary.map(({ shots, shots_asked: asked }) => [shots, asked]),
    [
      [2, 2],
      [2, 2],
      [2, 2],
    ],
  );
  const [first] = await score(new StubModel(264), 'piqa', 2);
  const task = loadChoiceTask('piqa', directory, { shots: 2 });
  const prompt = [...Buffer.from(`${task.examples.join('')}Q0\nAnswer:`)];
  const likelihood = (text: string): number => {
    const ids = [...Buffer.from(text)];
    return ids.reduce((sum, id, at) => sum + model.logProbability([...prompt, ...ids.slice(0, at)], id), 0);
  };
  assert.ok(Math.abs((first?.logLikelihoods[0] ?? 0) - likelihood(' a')) < 1e-4);
  assert.is(first?.promptTokens, prompt.length);
  const limited = await evaluate('shots-limited', { models: [model], shots: 2, maxContext: 50 });
  const [piqa] = limited.summary;
  assert.ok(Number(piqa?.shots) > 0 && Number(piqa?.shots) < 2);
  assert.ok(limited.notes.some((line) => / of 2 examples fitted a prompt on average/.test(line)));
});

test.run();
