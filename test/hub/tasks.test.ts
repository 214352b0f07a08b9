import { existsSync, readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadChoiceTask, TASK_NAMES } from '../../src/data/tasks/choice-tasks.js';
import { localMmlu, localTasks } from '../../src/data/tasks/directories.js';
import { fetchSet, listSets, SET_NAMES } from '../../src/data/tasks/fetch.js';
import { loadMmlu } from '../../src/data/tasks/mmlu.js';
import { PUBLISHED_SETS } from '../../src/data/tasks/sets.js';
import { rejects } from '../checkpoint/scratch.js';
import { runCli } from '../cli/run.js';
import { parquet } from './parquet.js';
import { withHub } from './environment.js';

const test = suite('hub: tasks');
const { server, at } = withHub(test);

const jsonLines = (rows: readonly object[]): string => rows.map((row) => JSON.stringify(row)).join('\n');

const STRINGS = (name: string): object[] => [
  { name, num_children: 1, converted_type: 'LIST', repetition_type: 'OPTIONAL' },
  { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
  { name: 'element', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
];
type Schema = Parameters<typeof parquet>[1];

/** Rows as the sets publish them, written for this test, and what they become. */
const PUBLISHED: Readonly<Record<string, { row: object; context: string; gold: string }>> = {
  'arc-easy': {
    row: {
      id: 'x',
      question: 'What is wet?',
      choices: { text: ['Sand', 'Water'], label: ['A', 'B'] },
      answerKey: 'B',
    },
    context: 'Question: What is wet?\nAnswer:',
    gold: ' Water',
  },
  'arc-challenge': {
    row: {
      id: 'x',
      question: 'What is dry?',
      choices: { text: ['Sand', 'Water'], label: ['1', '2'] },
      answerKey: '1',
    },
    context: 'Question: What is dry?\nAnswer:',
    gold: ' Sand',
  },
  piqa: {
    row: { goal: 'Dry a cup.', sol1: 'With soup.', sol2: 'With a towel.', label: 1 },
    context: 'Question: Dry a cup.\nAnswer:',
    gold: ' With a towel.',
  },
  boolq: {
    row: { question: 'is ice water', answer: true, passage: 'Ice is frozen water.' },
    context: 'Passage: Ice is frozen water.\nQuestion: is ice water?\nAnswer:',
    gold: ' yes',
  },
  openbookqa: {
    row: {
      question_stem: 'A stone is',
      choices: { text: ['hard', 'soft'], label: ['A', 'B'] },
      answerKey: ' A',
    },
    context: 'A stone is',
    gold: ' hard',
  },
  winogrande: {
    row: { sentence: 'Ann thanked Eve because _ had helped.', option1: 'Ann', option2: 'Eve', answer: '2' },
    context: 'Ann thanked Eve because Eve',
    gold: ' had helped.',
  },
  lambada: {
    row: { text: 'We looked at the wide, wide sea' },
    context: 'We looked at the wide, wide',
    gold: ' sea',
  },
  hellaswag: {
    row: {
      ...{
        activity_label: 'Baking',
        ctx_a: 'A cook [title] cooks [step] well.',
        ctx_b: 'then the Cook',
        label: '1',
      },
      endings: ['sleeps  long.', 'bakes [substeps] bread.'],
    },
    context: 'Baking: A cook. cooks well. Then the cook',
    gold: ' bakes bread.',
  },
  sciq: {
    row: {
      ...{ question: 'What melts?', distractor1: 'Rock', distractor2: 'Air', distractor3: 'Fire' },
      ...{ correct_answer: 'Ice', support: '' },
    },
    context: 'Question: What melts?\nAnswer:',
    gold: ' Ice',
  },
};

/** Publishes a set in the layout that its repository has: a folder a configuration, or `data/`. */
function publish(name: string): void {
  const set = PUBLISHED_SETS[name];
  if (set === undefined) return;
  const files = set.splits.map(
    ({ split }) =>
      [
        `${set.configuration ?? 'data'}/${split}-00000.jsonl`,
        jsonLines([PUBLISHED[name]?.row ?? {}]),
      ] as const,
  );
  const configuration = set.configuration ?? 'default';
  const declared = files.map(
    ([path], index) => `  - split: ${set.splits[index]?.split ?? ''}\n    path: ${path}\n`,
  );
  const card = `---\nconfigs:\n- config_name: ${configuration}\n  data_files:\n${declared.join('')}---\n`;
  server.add('datasets', set.repository, { 'README.md': card, ...Object.fromEntries(files) });
}

test('a row of every set becomes the prompt and the answer that eval asks', async () => {
  assert.equal(Object.keys(PUBLISHED_SETS).sort(), [...TASK_NAMES].sort());
  for (const [name, { context, gold }] of Object.entries(PUBLISHED)) {
    server.repositories.length = 0;
    // ARC's two sets share a repository, which a process opens once for a cache.
    process.env.HF_HUB_CACHE = at(name);
    publish(name);
    const notes: string[] = [];
    const { items, commit, sha256 } = await fetchSet(name, {
      revision: 'main',
      note: (line) => notes.push(line),
    });
    assert.is(items, 1, name);
    assert.match(notes.join(), /has 1 items; it is known with/);
    const task = loadChoiceTask(name, await localTasks(undefined), {});
    const right = task.items[0]?.options[task.items[0].gold];
    assert.equal([right?.context, right?.continuation], [context, gold], name);
    const file = PUBLISHED_SETS[name]?.file ?? '';
    const source = JSON.parse(readFileSync(at(`yoco/data/tasks/${file}.source.json`), 'utf8')) as object;
    assert.equal(
      [(source as { commit: string }).commit, (source as { written: object }).written],
      [commit, sha256],
    );
    assert.is(Object.keys(sha256).length, PUBLISHED_SETS[name]?.splits.length ?? 0);
  }
});

test('nested columns and large integers of Parquet, and the converted copy of a set that is a program', async () => {
  const choices = [
    ['one', 'two', 'three', 'four'],
    ['a, "b"', 'c\nd', 'e', 'f'],
  ];
  const file = parquet(
    [
      { name: 'question', data: ['How many?', 'Which, "here"?'] },
      { name: 'subject', data: ['astronomy', 'virology'] },
      { name: 'choices', data: choices },
      { name: 'answer', data: [1n, 3n] },
    ],
    [
      { name: 'root', num_children: 4 },
      { name: 'question', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
      { name: 'subject', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
      ...STRINGS('choices'),
      { name: 'answer', type: 'INT64', repetition_type: 'OPTIONAL' },
    ] as Schema,
  );
  const repository = server.add('datasets', 'cais/mmlu', { 'mmlu.py': 'a program' });
  await rejects(fetchSet('mmlu', { revision: repository.commits[0] }), /no \.parquet/);
  const parts = ['dev', 'validation', 'test'].map((split) => [`all/${split}/0000.parquet`, file] as const);
  server.branch(repository, 'refs/convert/parquet', Object.fromEntries(parts));
  const { exitCode, stdout, stderr } = await runCli('data', 'fetch', 'mmlu', '--format', 'json');
  assert.is(exitCode, 0, stderr);
  assert.match(stdout, /"items": ?2/);
  const { subjects, name } = loadMmlu(await localMmlu('mmlu'), { shots: 1 });
  assert.equal([name, subjects.map((subject) => subject.name)], ['mmlu', ['astronomy', 'virology']]);
  const [item] = subjects[1]?.items ?? [];
  assert.is(item?.options[item.gold]?.context, 'Which, "here"?\nA. a, "b"\nB. c\nd\nC. e\nD. f\nAnswer:');
  assert.is(item?.gold, 3);
  const listed = listSets().find((set) => set.name === 'mmlu');
  assert.ok(listed?.path !== null && existsSync(listed?.path ?? ''));
});

test('rows of another form are named; nothing is written', async () => {
  const bad = (row: object): void => {
    server.repositories.length = 0;
    process.env.HF_HUB_CACHE = at(`cache-${Math.abs(JSON.stringify(row).length)}`);
    server.add('datasets', 'ybisk/piqa', {
      'validation.jsonl': jsonLines([PUBLISHED.piqa?.row ?? {}, row]),
      'train.jsonl': '{}',
    });
  };
  for (const [row, expected] of [
    [
      { goal: 'g', sol1: 'a', sol2: 'b', label: -1 },
      /validation\.jsonl: row 2: expected a number from 0 to 1 in the column 'label', found -1/,
    ],
    [{ sol1: 'a', sol2: 'b', label: 1 }, /row 2: expected a text in the column 'goal', found no such column/],
  ] as const) {
    bad(row);
    await rejects(fetchSet('piqa'), expected);
  }
  assert.not.ok(existsSync(at('yoco/data')));
});

test('wrong usage names what there is', async () => {
  for (const [words, expected] of [
    [['fetch'], /fetch needs a name: the sets are mmlu, arc-easy/],
    [['fetch', 'glue'], /glue.*mmlu/],
    [['list', 'mmlu'], /list takes no name/],
    [['remove'], /fetch/],
  ] as const) {
    const { exitCode, stderr } = await runCli('data', ...words);
    assert.is(exitCode, 2, words.join(' '));
    assert.match(stderr, expected);
  }
  const { stdout } = await runCli('data', 'list', '--format', 'csv');
  assert.equal(
    stdout
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.split(',')[0]),
    [...SET_NAMES],
  );
  await rejects(localTasks(undefined), /no task has been fetched: 'yoco data fetch/);
  await rejects(localMmlu('mmlu'), /mmlu has not been fetched/);
});

test('a directory of tasks may lie on the hub', async () => {
  const line = jsonLines([{ query: 'Question: q', choices: ['a', 'b'], gold: 1 }]);
  server.add('datasets', 'owner/tasks', { 'piqa.jsonl': line, 'other/x.jsonl': line });
  const directory = await localTasks('hf:owner/tasks');
  assert.is(loadChoiceTask('piqa', directory, {}).items.length, 1);
  assert.not.ok(existsSync(`${directory}/other`));
  await rejects(localMmlu('hf:owner/tasks'), /has no files \{dev,val,test\}/);
});

test.run();
