import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { MMLU_SUBJECTS } from '../../../src/data/tasks/mmlu-subjects.js';
import { loadMmlu, sampleDirectory } from '../../../src/data/tasks/mmlu.js';
import { promptOpening } from '../../../src/data/tasks/task.js';
import { sharedTest } from '../../shared.js';

const test = suite('data/mmlu');

let directory = '';
test.before(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-mmlu-'));
  for (const split of ['dev', 'test', 'val']) mkdirSync(join(directory, split));
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

const put = (split: string, subject: string, text: string): void => {
  writeFileSync(join(directory, split, `${subject}_${split}.csv`), text);
};

const row = '"What, then?",one,"two ""2""",three,four,C\n';

test('reads quoted fields, the examples and the category', () => {
  put('test', 'abstract_algebra', `${row}"Line\nbreak?",a,b,c,d,A\r\n\n`);
  put('dev', 'abstract_algebra', row.repeat(3));
  const set = loadMmlu(directory, { shots: 2, subjects: ['abstract_algebra'] });
  const [subject] = set.subjects;
  assert.is(set.name, 'mmlu');
  assert.is(subject?.category, 'STEM');
  assert.is(subject?.examples.length, 2);
  assert.equal(
    subject?.items.map(({ index, gold, options }) => [index, gold, options.length, options[0]?.context]),
    [
      [0, 2, 4, 'What, then?\nA. one\nB. two "2"\nC. three\nD. four\nAnswer:'],
      [1, 0, 4, 'Line\nbreak?\nA. a\nB. b\nC. c\nD. d\nAnswer:'],
    ],
  );
  assert.equal(
    subject?.items[0]?.options.map(({ continuation }) => continuation),
    [' A', ' B', ' C', ' D'],
  );
  assert.is(loadMmlu(directory, { shots: 0, limit: 1 }).subjects[0]?.items.length, 1);
});

// What format_subject, gen_prompt and format_example of evaluate.py in github.com/hendrycks/test give for these rows.
test('the prompt is that of Hendrycks et al., with a second space before the subject', () => {
  put('test', 'high_school_physics', row);
  put('dev', 'high_school_physics', row);
  const [subject] = loadMmlu(directory, { shots: 1, subjects: ['high_school_physics'] }).subjects;
  assert.ok(subject);
  assert.is(
    promptOpening(subject, 1) + (subject.items[0]?.options[0]?.context ?? ''),
    'The following are multiple choice questions (with answers) about  high school physics.\n\n' +
      'What, then?\nA. one\nB. two "2"\nC. three\nD. four\nAnswer: C\n\n' +
      'What, then?\nA. one\nB. two "2"\nC. three\nD. four\nAnswer:',
  );
  assert.not.match(promptOpening(subject, 0), /Answer/);
  assert.is(subject.version, 2);
});

test('line ends of several kinds in one file, and a byte-order mark, are read', () => {
  const lines = ['q1,1,2,3,4,A\r\n', 'q2,1,2,3,4,B\n', '"q\r\n3",1,2,3,4,C\r', 'q4,1,2,3,4,D\r\n'];
  put('test', 'sociology', `\uFEFF${lines.join('')}`);
  const [subject] = loadMmlu(directory, { shots: 0, subjects: ['sociology'] }).subjects;
  assert.equal(
    subject?.items.map(({ gold, options }) => [gold, options[0]?.context.split('\nA. ')[0]]),
    [
      [0, 'q1'],
      [1, 'q2'],
      [2, 'q\r\n3'],
      [3, 'q4'],
    ],
  );
  writeFileSync(join(directory, 'subjects.json'), '\uFEFF{"alchemy":"STEM"}');
  put('test', 'alchemy', row);
  assert.is(loadMmlu(directory, { shots: 0, subjects: ['alchemy'] }).subjects[0]?.category, 'STEM');
  rmSync(join(directory, 'test', 'alchemy_test.csv'));
});

test('malformed files are named with the line', () => {
  const load = (text: string) => (): unknown => {
    put('val', 'virology', text);
    return loadMmlu(directory, { shots: 0, split: 'val' });
  };
  assert.throws(load(`${row}a,b,c\n`), /virology_val\.csv:2: expected 6 columns .*, found 3/);
  assert.throws(
    load(`${row}q,1,2,3,4,E\n`),
    /virology_val\.csv:2: the answer must be A, B, C or D, found 'E'/,
  );
  assert.throws(load(`${row}"q,1,2,3,4,A\n`), /virology_val\.csv:\d+: malformed CSV/);
  assert.throws(load(`${row}q,1,,3,4,A\n`), /virology_val\.csv:2: the column 'B' is empty/);
  assert.throws(load(`${row}  ,1,2,3,4,A\n`), /virology_val\.csv:2: the column 'question' is empty/);
  assert.throws(load(''), /virology_val\.csv is empty/);
});

test('what is missing is said', () => {
  assert.throws(() => loadMmlu(join(directory, 'none'), { shots: 0 }), /no such directory/);
  assert.throws(() => loadMmlu(join(directory, 'dev'), { shots: 0 }), /has no folder 'test'/);
  assert.throws(
    () => loadMmlu(directory, { shots: 0, subjects: ['alchemy2'] }),
    /no subject 'alchemy2'.*the subjects are abstract_algebra/,
  );
  assert.throws(
    () => loadMmlu(directory, { shots: 4, subjects: ['abstract_algebra'] }),
    /has 3 examples: --shots 4/,
  );
  put('test', 'astronomy', row);
  assert.throws(
    () => loadMmlu(directory, { shots: 1, subjects: ['astronomy'] }),
    /no such file: .*astronomy_dev\.csv/,
  );
});

test('our own questions: eight subjects in the four categories, every letter used about equally', () => {
  const set = loadMmlu(sampleDirectory(), { shots: 5 });
  assert.is(set.name, 'yoco-sample');
  assert.is(set.subjects.length, 8);
  assert.is(new Set(set.subjects.map(({ category }) => category)).size, 4);
  const questions = set.subjects.flatMap((subject) => subject.items);
  assert.is(questions.length, 48);
  for (const letter of [0, 1, 2, 3]) {
    const count = questions.filter(({ gold }) => gold === letter).length;
    assert.ok(count >= 10 && count <= 14, `${count} answers are ${letter}`);
  }
  assert.ok(
    questions.every(({ options }) => {
      const [, ...choices] = (options[0]?.context ?? '').split(/\n[A-D]\. /);
      return new Set(choices).size === 4;
    }),
  );
});

sharedTest(test, 'data/mmlu', 'reads all 57 subjects of MMLU', (path) => {
  const set = loadMmlu(path, { shots: 5 });
  assert.is(set.name, 'mmlu');
  assert.is(set.subjects.length, 57);
  assert.is(
    set.subjects.reduce((sum, { items }) => sum + items.length, 0),
    14042,
  );
  const published = JSON.parse(readFileSync(join(path, 'subjects.json'), 'utf8')) as Record<string, string>;
  assert.equal(Object.fromEntries([...MMLU_SUBJECTS].sort(([a], [b]) => (a < b ? -1 : 1))), published);
});

test.run();
