import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { compareResults } from '../../src/results/compare.js';
import type { Schema } from '../../src/results/schema.js';

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
let directory = '';
test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-compare-'));
});
test.after.each(() => {
  rmSync(directory, { recursive: true, force: true });
});

const baseline = (text: string): string => {
  const file = join(directory, 'baseline.csv');
  writeFileSync(file, text);
  return file;
};

test('names the rows that got worse, and only in the direction that is worse', () => {
  const file = baseline(
    'context,accuracy,flops,status,error\n1024,0.9,100,ok,\n2048,0.9,100,ok,\n4096,0.9,100,ok,\n',
  );
  const fresh = [
    { context: 1024, accuracy: 0.99, flops: 100, status: 'ok' },
    { context: 2048, accuracy: 0.8, flops: 101, status: 'ok' },
    { context: 512, accuracy: 0, flops: 1, status: 'ok' },
  ];
  const { offences, compared } = compareResults(schema, fresh, file, 5);
  assert.is(compared, 6);
  assert.equal(offences, ['context=2048: accuracy 0.8, was 0.9 (11.1 % worse)']);
  assert.is(compareResults(schema, fresh, file, 0).offences.length, 2);
});

test('a row that failed, or a figure that went missing, is an offence', () => {
  const file = baseline('context,accuracy,flops,status,error\n1024,0.9,100,ok,\n');
  const { offences } = compareResults(
    schema,
    [{ context: 1024, status: 'error', error: 'memory' }],
    file,
    50,
  );
  assert.equal(offences, [
    'context=1024: accuracy empty, was 0.9',
    'context=1024: flops empty, was 100',
    'context=1024: status error, was ok',
  ]);
});

test('timings are compared where a direction is better', () => {
  const file = baseline('context,seconds,seconds_max\n1024,1,1\n');
  const { offences } = compareResults(schema, [{ context: 1024, seconds: 1.2, seconds_max: 9 }], file, 10);
  assert.equal(offences, ['context=1024: seconds 1.2, was 1 (20.0 % worse)']);
});

test('files that cannot serve as a baseline are refused by name', () => {
  const check = (file: string) => (): unknown => compareResults(schema, [{ context: 1 }], file, 0);
  assert.throws(
    check(baseline('a,b\n1,2\n')),
    /baseline\.csv is no table of prefill: column context is missing/,
  );
  assert.throws(check(baseline('context,accuracy\n7,1\n')), /no row in common/);
  assert.throws(check(baseline('context,accuracy\n7,1,2\n')), /cannot read results: .*line 2/);
  assert.throws(check(join(directory, 'absent.csv')), /absent\.csv: no such file/);
});

test.run();
