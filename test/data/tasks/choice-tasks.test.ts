import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadChoiceTask, TASK_NAMES } from '../../../src/data/tasks/choice-tasks.js';
import { sharedTest } from '../../shared.js';

const test = suite('data/choice-tasks');

let directory = '';
test.before(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-tasks-'));
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

const put = (file: string, ...objects: (object | string)[]): void => {
  const lines = objects.map((item) => (typeof item === 'string' ? item : JSON.stringify(item)));
  writeFileSync(join(directory, file), lines.join('\n'));
};

test('questions end in Answer:, statements are continued, choices follow one space', () => {
  put('piqa.jsonl', { query: 'Question: How?\n', choices: ['Thus.', ' So. '], gold: 1 });
  assert.equal(loadChoiceTask('piqa', directory).items, [
    {
      index: 0,
      options: [
        { context: 'Question: How?\nAnswer:', continuation: ' Thus.' },
        { context: 'Question: How?\nAnswer:', continuation: ' So.' },
      ],
      gold: 1,
    },
  ]);
  put('openbook_qa.jsonl', { query: 'Predators eat', choices: ['lions', 'bunnies'], gold: 1 });
  const [item] = loadChoiceTask('openbookqa', directory).items;
  assert.equal(item?.options[0], { context: 'Predators eat', continuation: ' lions' });
});

test('Winogrande scores one ending after either name; LAMBADA one word', () => {
  put('winogrande.jsonl', { context_options: ['A saw', 'B saw'], continuation: 'it.', gold: 0 });
  const winogrande = loadChoiceTask('winogrande', directory);
  assert.is(winogrande.normalizable, false);
  assert.equal(winogrande.items[0]?.options, [
    { context: 'A saw', continuation: ' it.' },
    { context: 'B saw', continuation: ' it.' },
  ]);
  put('lambada_openai.jsonl', { context: 'One day', continuation: 'came' });
  const lambada = loadChoiceTask('lambada', directory);
  assert.is(lambada.chance, null);
  assert.is(lambada.kind, 'cloze');
  assert.equal(lambada.items[0]?.options, [{ context: 'One day', continuation: ' came' }]);
});

test('chance is the mean of one in the number of choices', () => {
  const item = (count: number): object => ({
    query: 'q',
    choices: 'abcdef'.split('').slice(0, count),
    gold: 0,
  });
  put('arc_easy.jsonl', item(4), item(4), item(5), item(3));
  const task = loadChoiceTask('arc-easy', directory);
  assert.ok(Math.abs((task.chance ?? 0) - (1 / 4 + 1 / 4 + 1 / 5 + 1 / 3) / 4) < 1e-12);
  assert.is(loadChoiceTask('arc-easy', directory, 2).chance, 0.25);
});

test('unknown tasks, missing files and malformed lines are named', () => {
  assert.throws(() => loadChoiceTask('hella', directory), /unknown task 'hella': the tasks are arc-easy/);
  assert.throws(() => loadChoiceTask('boolq', directory), /has no file boolq\.jsonl for task boolq/);
  const load =
    (...objects: (object | string)[]) =>
    () => {
      put('boolq.jsonl', { query: 'q', choices: ['no', 'yes'], gold: 0 }, ...objects);
      return loadChoiceTask('boolq', directory);
    };
  assert.throws(load('{'), /boolq\.jsonl:2: not valid JSON/);
  assert.throws(
    load({ choices: ['a', 'b'], gold: 0 }),
    /boolq\.jsonl:2: expected a text in the field "query"/,
  );
  assert.throws(
    load({ query: 'q', choices: ['a'], gold: 0 }),
    /:2: expected a list of two or more texts in the field "choices"/,
  );
  assert.throws(
    load({ query: 'q', choices: ['a', 'b'], gold: 2 }),
    /:2: expected a number from 0 to 1 in the field "gold"/,
  );
});

sharedTest(test, 'data/tasks', 'reads every task', (path) => {
  const sizes = TASK_NAMES.map((name) => loadChoiceTask(name, path).items.length);
  assert.equal(sizes, [2376, 1172, 1838, 3270, 500, 1267, 5153]);
});

test.run();
