import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadChoiceTask } from '../../../src/data/tasks/choice-tasks.js';
import { loadTokenizer } from '../../../src/data/tokenizer.js';
import { runTasks } from '../../../src/evaluation/tasks/tasks-run.js';
import { scoreTask, type ItemResult } from '../../../src/evaluation/tasks/tasks.js';
import { collectProvenance } from '../../../src/results/provenance.js';
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

async function score(model: StubModel, name: string): Promise<ItemResult[]> {
  const results: ItemResult[] = [];
  const task = loadChoiceTask(name, directory);
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
  assert.ok(Math.abs((result?.goldLogLikelihood ?? 0) - short) < 1e-4);
  assert.ok(Math.abs((result?.rivalLogLikelihood ?? 0) - long) < 1e-4);
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

test.run();
