import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { MMLU_SUBJECTS } from '../../../src/data/tasks/mmlu-subjects.js';
import { fewShotPrefix, loadMmlu, questionText, sampleDirectory } from '../../../src/data/tasks/mmlu.js';
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
  assert.equal(subject?.questions, [
    { index: 0, question: 'What, then?', choices: ['one', 'two "2"', 'three', 'four'], answer: 2 },
    { index: 1, question: 'Line\nbreak?', choices: ['a', 'b', 'c', 'd'], answer: 0 },
  ]);
  assert.is(loadMmlu(directory, { shots: 0, limit: 1 }).subjects[0]?.questions.length, 1);
});

test('the prompt is that of Hendrycks et al.', () => {
  put('test', 'world_religions', row);
  put('dev', 'world_religions', row);
  const [subject] = loadMmlu(directory, { shots: 1, subjects: ['world_religions'] }).subjects;
  assert.ok(subject);
  const [question] = subject.questions;
  assert.ok(question);
  assert.is(
    fewShotPrefix(subject, 1) + questionText(question),
    'The following are multiple choice questions (with answers) about world religions.\n\n' +
      'What, then?\nA. one\nB. two "2"\nC. three\nD. four\nAnswer: C\n\n' +
      'What, then?\nA. one\nB. two "2"\nC. three\nD. four\nAnswer:',
  );
  assert.not.match(fewShotPrefix(subject, 0), /Answer/);
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
  assert.throws(load(''), /virology_val\.csv is empty/);
});

test('what is missing is said', () => {
  assert.throws(() => loadMmlu(join(directory, 'none'), { shots: 0 }), /no such directory/);
  assert.throws(() => loadMmlu(join(directory, 'dev'), { shots: 0 }), /has no folder 'test'/);
  assert.throws(
    () => loadMmlu(directory, { shots: 0, subjects: ['alchemy'] }),
    /no subject 'alchemy'.*the subjects are abstract_algebra/,
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
  const questions = set.subjects.flatMap((subject) => subject.questions);
  assert.is(questions.length, 48);
  for (const letter of [0, 1, 2, 3]) {
    const count = questions.filter(({ answer }) => answer === letter).length;
    assert.ok(count >= 10 && count <= 14, `${count} answers are ${letter}`);
  }
  assert.ok(questions.every(({ choices }) => new Set(choices).size === 4));
});

sharedTest(test, 'data/mmlu', 'reads all 57 subjects of MMLU', (path) => {
  const set = loadMmlu(path, { shots: 5 });
  assert.is(set.name, 'mmlu');
  assert.is(set.subjects.length, 57);
  assert.is(
    set.subjects.reduce((sum, { questions }) => sum + questions.length, 0),
    14042,
  );
  const published = JSON.parse(readFileSync(join(path, 'subjects.json'), 'utf8')) as Record<string, string>;
  assert.equal(Object.fromEntries([...MMLU_SUBJECTS].sort(([a], [b]) => (a < b ? -1 : 1))), published);
});

test.run();
