import { writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { compareResults, readBaseline, type Comparison } from '../../src/results/compare.js';
import { junitXml } from '../../src/results/junit.js';
import type { Row, Schema } from '../../src/results/schema.js';

const schema: Schema = {
  name: 'prefill',
  columns: [
    { name: 'context', kind: 'key', description: '' },
    { name: 'accuracy', kind: 'result', description: '', digits: 4, better: 'higher' },
    { name: 'flops', kind: 'result', description: '' },
    { name: 'seconds', kind: 'timing', description: '', better: 'lower' },
    { name: 'seconds_max', kind: 'timing', description: '' },
  ],
};

const test = suite('compareResults');
const at = scratchDirectory(test);

const baseline = (text: string): string => {
  const file = at('baseline.csv');
  writeFileSync(file, text);
  return file;
};

const compare = (fresh: readonly Row[], file: string, tolerance: number): Comparison =>
  compareResults(schema, fresh, readBaseline(schema, file), tolerance);

const offences = ({ rows }: Comparison): string[] =>
  rows.flatMap((row) => row.offences.map((line) => `${row.key}: ${line}`));

test('names the rows that got worse, and only in the direction that is worse', () => {
  const file = baseline(
    'context,accuracy,flops,status,error\n1024,0.9,100,ok,\n2048,0.9,100,ok,\n4096,0.9,100,ok,\n',
  );
  const fresh = [
    { context: 1024, accuracy: 0.99, flops: 100, status: 'ok' },
    { context: 2048, accuracy: 0.8, flops: 101, status: 'ok' },
    { context: 512, accuracy: 0, flops: 1, status: 'ok' },
  ];
  const comparison = compare(fresh, file, 5);
  assert.is(
    comparison.rows.reduce((sum, { compared }) => sum + compared, 0),
    6,
  );
  assert.equal(comparison.unknown, ['context=512']);
  assert.equal(offences(comparison), ['context=2048: accuracy 0.8, was 0.9 (11.1 % worse)']);
  assert.is(offences(compare(fresh, file, 0)).length, 2);
});

test('a row that failed, or a figure that went missing, is an offence', () => {
  const file = baseline('context,accuracy,flops,status,error\n1024,0.9,100,ok,\n');
  const comparison = compare([{ context: 1024, status: 'error', error: 'memory' }], file, 50);
  assert.equal(offences(comparison), [
    'context=1024: accuracy empty, was 0.9',
    'context=1024: flops empty, was 100',
    'context=1024: status error, was ok',
  ]);
});

test('a figure that is no number is an offence whatever the tolerance', () => {
  const file = baseline('context,accuracy\n1024,0.9\n');
  assert.is(offences(compare([{ context: 1024, accuracy: NaN }], file, 1000)).length, 1);
});

test('a row that failed in the baseline cannot get worse', () => {
  const file = baseline('context,accuracy,status,error\n1024,,error,memory\n2048,,error,memory\n');
  const fresh: Row[] = [
    { context: 1024, accuracy: 0.9, status: 'ok' },
    { context: 2048, status: 'error', error: 'memory' },
  ];
  const comparison = compare(fresh, file, 0);
  assert.equal(offences(comparison), []);
  assert.equal(
    comparison.rows.map(({ repaired }) => repaired),
    [true, false],
  );
});

test('timings are compared where a direction is better', () => {
  const file = baseline('context,seconds,seconds_max\n1024,1,1\n');
  const comparison = compare([{ context: 1024, seconds: 1.2, seconds_max: 9 }], file, 10);
  assert.equal(offences(comparison), ['context=1024: seconds 1.2, was 1 (20.0 % worse)']);
});

test('files that cannot serve as a baseline are refused by name', () => {
  const read = (file: string) => (): unknown => readBaseline(schema, file);
  assert.throws(
    read(baseline('a,b\n1,2\n')),
    /baseline\.csv is no table of prefill: column context is missing/,
  );
  assert.throws(read(baseline('context,accuracy\n')), /baseline\.csv has no rows/);
  assert.throws(read(baseline('context,seconds_max\n7,1\n')), /has no column of prefill that can be better/);
  assert.throws(read(baseline('context,accuracy\n7,1,2\n')), /cannot read results: .*line 2/);
  assert.throws(read(at('absent.csv')), /absent\.csv: no such file/);
  const other = baseline('context,accuracy\n7,1\n');
  assert.throws(() => compare([{ context: 1, accuracy: 1 }], other, 0), /no row in common/);
});

test('the JUnit report has a case for each row, and escapes what a row says', () => {
  const named: Schema = {
    name: 'prefill',
    columns: [{ name: 'model', kind: 'key', description: '' }, ...schema.columns],
  };
  const evil = 'a<b>&"c\' ]]>\u001b[31m\n';
  const row = (model: string, accuracy: number): Row => ({ model, context: 1, accuracy, status: 'ok' });
  const file = baseline('model,context,accuracy\nbad,1,0.9\ngood,1,0.9\n');
  const base = readBaseline(named, file);
  const renamed = { ...base, rows: new Map([...base.rows].map(([key, r]) => [key.replace('bad', evil), r])) };
  const fresh = [row(evil, 0.1), row('good', 0.9), row('new', 1)];
  const xml = junitXml(compareResults(named, fresh, renamed, 5));
  assert.match(xml, /^<\?xml version="1\.0" encoding="UTF-8"\?>/);
  assert.match(xml, /<testsuite name="prefill" tests="3" failures="1" errors="0" skipped="1">/);
  assert.match(xml, /name="model=a&lt;b&gt;&amp;&quot;c&apos; \]\]&gt;\ufffd\[31m context=1"/);
  assert.match(xml, /<failure message="1 figure is worse" type="regression">accuracy 0\.1, was 0\.9/);
  assert.match(xml, /<testcase classname="yoco\.prefill" name="model=good context=1"\/>/);
  assert.match(xml, /name="model=new context=1">\s*<skipped message="[^"]+"\/>/);
});

test('a column may allow for processors of other kinds, which a lower tolerance does not take back', () => {
  const columns = schema.columns.map((column) =>
    column.name === 'accuracy' ? { ...column, tolerance: 1 } : column,
  );
  const text = 'context,accuracy,flops,status,error\n1,0.9,100,ok,\n2,0.9,100,ok,\n';
  const fresh = [
    { context: 1, accuracy: 0.895, flops: 100, status: 'ok' },
    { context: 2, accuracy: 0.88, flops: 100, status: 'ok' },
  ];
  const lenient = { ...schema, columns };
  const found = compareResults(lenient, fresh, readBaseline(lenient, baseline(text)), 0);
  assert.is(offences(found).length, 1);
  assert.match(offences(found).join(), 'context=2: accuracy 0.88');
});

test.run();
