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
  assert.equal(winogrande.metrics, ['accuracy']);
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
  assert.is(loadChoiceTask('arc-easy', directory, { limit: 2 }).chance, 0.25);
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

test('an empty choice is no choice: the error names file and line', () => {
  const load = (name: string, file: string, item: object) => (): unknown => {
    put(file, item);
    return loadChoiceTask(name, directory);
  };
  for (const choices of [
    ['a', ''],
    ['a', ' \n'],
  ]) {
    assert.throws(
      load('piqa', 'piqa.jsonl', { query: 'q', choices, gold: 0 }),
      /piqa\.jsonl:1: text 2 in the field "choices" is empty/,
    );
  }
  assert.throws(
    load('winogrande', 'winogrande.jsonl', { context_options: ['', 'b'], continuation: 'c', gold: 0 }),
    /winogrande\.jsonl:1: text 1 in the field "context_options" is empty/,
  );
});

test('HellaSwag continues its context; SciQ has the prompt of lm-evaluation-harness', () => {
  put('hellaswag.jsonl', { query: 'Roofing: A man sits. he', choices: ['waits.', 'rips tiles.'], gold: 1 });
  const hellaswag = loadChoiceTask('hellaswag', directory);
  assert.equal(hellaswag.metrics, ['accuracy', 'accuracy_normalized']);
  assert.equal(hellaswag.items[0]?.options[1], {
    context: 'Roofing: A man sits. he',
    continuation: ' rips tiles.',
  });
  const fields = { question: 'What boils?', correct_answer: 'water' };
  const distractors = { distractor1: 'iron', distractor2: 'stone', distractor3: 'wood' };
  put(
    'sciq.jsonl',
    { ...fields, ...distractors, support: ' Water boils at 100 degrees.' },
    { ...fields, ...distractors, support: '' },
  );
  const [first, second] = loadChoiceTask('sciq', directory).items;
  assert.is(first?.options[0]?.context, 'Water boils at 100 degrees.\nQuestion: What boils?\nAnswer:');
  assert.is(second?.options[0]?.context, 'Question: What boils?\nAnswer:');
  assert.equal(
    first?.options.map(({ continuation }) => continuation),
    [' iron', ' stone', ' wood', ' water'],
  );
  assert.is(first?.gold, 3);
  put('sciq.jsonl', { ...fields, ...distractors, distractor2: ' ' });
  assert.throws(() => loadChoiceTask('sciq', directory), /sciq\.jsonl:1: .*"distractor2"/);
});

test('examples are drawn by the seed from the train split, which must not hold what is asked', () => {
  const item = (query: string): object => ({ query, choices: ['no', 'yes'], gold: 1 });
  put('boolq.jsonl', item('asked'));
  const load = (shots: number, seed = 1): readonly string[] =>
    loadChoiceTask('boolq', directory, { shots, seed }).examples;
  assert.throws(() => load(1), /has no file boolq_train\.jsonl for task boolq with --shots/);
  put('boolq_train.jsonl', ...Array.from({ length: 30 }, (_, i) => item(`train ${i}`)));
  assert.is(load(3).length, 3);
  assert.is(new Set(load(30)).size, 30);
  assert.equal(load(3), load(3));
  assert.not.equal(load(3), load(3, 2));
  assert.match(load(1)[0] ?? '', /^train \d+\nAnswer: yes\n\n$/);
  assert.not.equal(
    loadChoiceTask('boolq', directory, { shots: 1 }).sha256,
    loadChoiceTask('boolq', directory).sha256,
  );
  assert.throws(() => load(31), /has 30 examples: --shots 31 is too many/);
  put('boolq_train.jsonl', item('train'), item('asked'));
  assert.throws(() => load(1), /boolq_train\.jsonl holds a question that is asked \(example 2\)/);
});

sharedTest(test, 'data/tasks', 'reads every task', (path) => {
  // No copy of SciQ is at hand.
  const names = TASK_NAMES.filter((name) => name !== 'sciq');
  const sizes = names.map((name) => loadChoiceTask(name, path).items.length);
  assert.equal(sizes, [2376, 1172, 1838, 3270, 500, 1267, 5153, 10042]);
});

test.run();
