import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LETTERS, loadMmlu, type QuestionSet, type Subject } from '../../../src/data/tasks/mmlu.js';
import { promptOpening } from '../../../src/data/tasks/task.js';
import { loadTokenizer, type Tokenizer } from '../../../src/data/tokenizer.js';
import type { Candidate } from '../../../src/evaluation/candidates.js';
import { mmluTables } from '../../../src/evaluation/tasks/mmlu.js';
import { TaskPrompts } from '../../../src/evaluation/tasks/prompts.js';
import { runTasks, type TasksRun } from '../../../src/evaluation/tasks/run.js';
import { scoreTask } from '../../../src/evaluation/tasks/score.js';
import { collectProvenance } from '../../../src/results/provenance.js';
import { usePlainBackend } from '../../plain-backend.js';
import { stubCandidate, stubEngine, StubModel } from '../stub-model.js';

const test = suite('evaluation/mmlu');

let directory = '';
let set: QuestionSet;
let bytes: Tokenizer;
test.before(async () => {
  await usePlainBackend();
  directory = mkdtempSync(join(tmpdir(), 'yoco-mmlu-run-'));
  const csv = (subject: string, count: number): string =>
    Array.from({ length: count }, (_, i) => `${subject} ${i}?,a${i},b,c,d,${LETTERS[(i * i) % 4]}\n`).join(
      '',
    );
  for (const split of ['dev', 'test']) {
    mkdirSync(join(directory, split));
    for (const [subject, count] of [
      ['astronomy', 20],
      ['virology', 3],
    ] as const) {
      writeFileSync(
        join(directory, split, `${subject}_${split}.csv`),
        csv(subject, split === 'dev' ? 2 : count),
      );
    }
  }
  set = loadMmlu(directory, { shots: 2 });
  bytes = await loadTokenizer('bytes');
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

const collect = async <T>(results: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = [];
  for await (const result of results) all.push(result);
  return all;
};

test('log-likelihoods are those of the whole prompts, though the examples are consumed once', async () => {
  const model = new StubModel(264);
  const [subject] = set.subjects;
  const asked = subject?.items[3];
  assert.ok(subject && asked);
  const results = await collect(scoreTask(model, bytes, subject, { limit: Infinity, isKnown: () => false }));
  assert.is(results.length, 20);
  const prompt = [...bytes.encode(promptOpening(subject, 2) + (asked.options[0]?.context ?? ''))];
  for (const [index, letter] of LETTERS.entries()) {
    const wanted =
      model.logProbability(prompt, 32) + model.logProbability([...prompt, 32], letter.charCodeAt(0));
    assert.ok(Math.abs((results[3]?.logLikelihoods[index] ?? 0) - wanted) < 1e-4);
  }
  const best = Math.max(...(results[3]?.logLikelihoods ?? []));
  assert.is(results[3]?.logLikelihoods[results[3].prediction ?? -1], best);
  assert.is(results[3]?.promptTokens, prompt.length);
  const prefix = bytes.encode(promptOpening(subject, 2)).length;
  assert.ok(model.consumed < prefix + 20 * ((asked.options[0]?.context.length ?? 0) + 3));
  assert.is(model.openCaches, 0);
});

test('prompts beyond the limit have fewer examples, then lose their beginning', () => {
  const [subject] = set.subjects;
  const question = subject?.items[0];
  assert.ok(subject && question);
  const full = new TaskPrompts(subject, bytes, Infinity).prompt(question);
  const size = full.requests[0]?.tokens.length ?? 0;
  assert.is(full.shots, 2);
  assert.is(new TaskPrompts(subject, bytes, size).prompt(question).shots, 2);
  assert.is(new TaskPrompts(subject, bytes, size - 1).prompt(question).shots, 1);
  const tight = new TaskPrompts(subject, bytes, 40).prompt(question);
  assert.is(tight.shots, 0);
  const [request] = tight.requests;
  assert.is(request?.tokens.length, 40);
  assert.match(bytes.decode(request?.tokens ?? []), /D\. d\nAnswer: A$/);
});

test('prompts of several questions are those of each, and no text is encoded twice', () => {
  const [subject] = set.subjects;
  assert.ok(subject);
  const [first] = subject.items;
  const size = first
    ? (new TaskPrompts(subject, bytes, Infinity).prompt(first).requests[0]?.tokens.length ?? 0)
    : 0;
  for (const limit of [Infinity, size, size - 1, 40]) {
    const expected = subject.items.map((item) => new TaskPrompts(subject, bytes, limit).prompt(item));
    const encoded: string[] = [];
    const calls = { all: 0 };
    const counting: Tokenizer = Object.assign(Object.create(bytes) as Tokenizer, {
      encode: (text: string) => {
        encoded.push(text);
        return bytes.encode(text);
      },
      encodeAll: (texts: string[]) => {
        calls.all++;
        encoded.push(...texts);
        return texts.map((text) => bytes.encode(text));
      },
    });
    const prompts = new TaskPrompts(subject, counting, limit);
    encoded.length = 0;
    assert.equal(prompts.prompts(subject.items), expected);
    assert.ok(calls.all <= 2);
    // But of a prompt that came out too long by the whole, which is rare.
    if (limit === Infinity) assert.is(new Set(encoded).size, encoded.length);
  }
});

/** Always answers with this letter. */
const decided = (letter: string): StubModel =>
  new StubModel(264, (context) => (context.at(-1) === 32 ? letter.charCodeAt(0) : null));

const candidate = (name: string, model: StubModel): Candidate => stubCandidate(name, model, bytes);

const runOf = (candidates: Candidate[], changes: Partial<TasksRun<Subject>> = {}): TasksRun<Subject> => ({
  tasks: set.subjects,
  tables: mmluTables(set),
  settings: { shots: 2 },
  note: () => undefined,
  candidates,
  directory: join(directory, 'out'),
  resume: true,
  engine: stubEngine,
  provenance: collectProvenance({ command: ['eval-mmlu'], flags: {} }),
  onItem: () => undefined,
  ...changes,
});

async function tables(run: TasksRun<Subject>): Promise<{ summary: string; questions: string }> {
  for (const writer of await runTasks(run)) writer.close();
  const read = (name: string): string => readFileSync(join(run.directory, name), 'utf8');
  return { summary: read('eval-mmlu.csv'), questions: read('eval-mmlu-questions.csv') };
}

test('rows for subjects, categories and averages; the second model is compared with the first', async () => {
  const { summary, questions } = await tables(
    runOf([candidate('first', decided('A')), candidate('second', decided('B'))]),
  );
  // Answers are A, B, A, B, … : right half of the time, and the two models are never right together.
  const row = (start: string): string[] =>
    (summary.split('\n').find((line) => line.startsWith(start)) ?? '').split(',');
  const header = summary.split('\n')[0]?.split(',') ?? [];
  const cell = (start: string, column: string): string => row(start)[header.indexOf(column)] ?? '';
  const second = 'second,yoco,gated-retention,mmlu';
  assert.is(cell(`${second},subject,astronomy`, 'accuracy'), '0.5');
  assert.is(cell(`${second},subject,virology`, 'accuracy'), '0.333333');
  assert.is(cell(`${second},category,STEM`, 'questions'), '20');
  assert.is(cell(`${second},average,micro`, 'accuracy'), String(Number((11 / 23).toFixed(6))));
  assert.is(cell(`${second},average,macro`, 'accuracy'), String(Number(((0.5 + 1 / 3) / 2).toFixed(6))));
  assert.is(cell(`${second},average,micro`, 'difference'), String(Number((-1 / 23).toFixed(6))));
  assert.is(cell('first,yoco,gated-retention,mmlu,average,micro', 'difference'), '');
  assert.is(cell(`${second},average,micro`, 'chance'), '0.25');
  assert.is(cell(`${second},average,micro`, 'shots'), '2');
  assert.is(cell(`${second},average,micro`, 'weights'), 'random');
  assert.is(questions.trim().split('\n').length, 1 + 2 * 23);
});

test('a run that was interrupted goes on and ends with the same tables', async () => {
  const whole = await tables(
    runOf([candidate('m', new StubModel(264))], { directory: join(directory, 'whole') }),
  );
  const stopping = runOf([candidate('m', new StubModel(264))], {
    directory: join(directory, 'stopped'),
    onItem: (() => {
      let asked = 0;
      return () => {
        if (++asked === 18) throw new Error('killed');
      };
    })(),
  });
  try {
    await runTasks(stopping);
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /killed/);
  }
  const model = new StubModel(264);
  const resumed = await tables(runOf([candidate('m', model)], { directory: join(directory, 'stopped') }));
  assert.equal(resumed, whole);
  const untouched = new StubModel(264);
  assert.equal(
    await tables(runOf([candidate('m', untouched)], { directory: join(directory, 'stopped') })),
    whole,
  );
  assert.is(untouched.consumed, 0);
  assert.ok(model.consumed > 0);
});

test.run();
