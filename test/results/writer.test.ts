import { appendFileSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { RunError } from '../../src/errors.js';
import { collectProvenance } from '../../src/results/provenance.js';
import type { Row, Schema } from '../../src/results/schema.js';
import { ResultWriter, type WriterOptions } from '../../src/results/writer.js';

const schema: Schema = {
  name: 'sweep',
  columns: [
    { name: 'architecture', kind: 'key', description: '' },
    { name: 'context', kind: 'key', description: '' },
    { name: 'loss', kind: 'result', description: '', digits: 3 },
    { name: 'prefill_seconds', kind: 'timing', description: '' },
  ],
};
const provenance = collectProvenance({ command: ['test'], flags: {} });
const keys = [1, 2, 3].map((context): Row => ({ architecture: 'yoco', context }));
const measured = (key: Row, seconds = 0.5): Row => ({ ...key, loss: 1.23456, prefill_seconds: seconds });

const test = suite('ResultWriter');
const at = scratchDirectory(test);

const open = (options: Partial<WriterOptions> = {}): ResultWriter =>
  ResultWriter.open(at(), schema, { provenance, settings: { seed: 1 }, ...options });
const text = (name: string): string => readFileSync(at(name), 'utf8');

test('each row is in the files as soon as it is appended, timings apart from results', () => {
  const writer = open({ plan: keys });
  writer.append(measured(keys[0] ?? {}));
  assert.is(text('sweep.csv'), 'architecture,context,loss,status,error\nyoco,1,1.235,ok,\n');
  assert.is(text('sweep.timings.csv'), 'architecture,context,prefill_seconds\nyoco,1,0.5\n');
  assert.is((JSON.parse(text('sweep.run.json')) as { finished: string | null }).finished, null);
  writer.close();
  assert.ok((JSON.parse(text('sweep.run.json')) as { finished: string | null }).finished);
  assert.equal(readdirSync(at()).sort(), [
    'sweep.cells.jsonl',
    'sweep.csv',
    'sweep.run.json',
    'sweep.timings.csv',
  ]);
});

test('an interrupted sweep resumes and ends with the bytes of an uninterrupted one', () => {
  const whole = open({ plan: keys });
  for (const key of keys) whole.append(measured(key));
  whole.close();
  const expected = text('sweep.csv');
  rmSync(at('sweep.cells.jsonl'));

  open({ plan: keys }).append(measured(keys[2] ?? {}));
  appendFileSync(at('sweep.cells.jsonl'), '{"hash":"cut sho');
  const rest = open({ plan: keys });
  assert.equal(
    keys.map((key) => rest.has(key)),
    [false, false, true],
  );
  rest.append(measured(keys[0] ?? {}));
  rest.append(measured(keys[1] ?? {}));
  rest.close();
  assert.is(text('sweep.csv'), expected);
});

test('a cell is measured anew when what determines it has changed, or when told to', () => {
  const writer = open();
  writer.append(measured(keys[0] ?? {}));
  writer.close();
  assert.is(open().has(keys[0] ?? {}), true);
  assert.is(open({ settings: { seed: 2 } }).has(keys[0] ?? {}), false);
  assert.is(open({ settings: (key) => ({ twice: Number(key.context) * 2 }) }).has(keys[0] ?? {}), false);
  assert.is(open({ resume: false }).has(keys[0] ?? {}), false);
  assert.is(open().has(keys[0] ?? {}), false, 'starting afresh forgets the earlier cells');
});

test('the table holds the present plan only, the journal every finished cell', () => {
  const first = open({ plan: keys.slice(0, 1) });
  first.append(measured(keys[0] ?? {}));
  const second = open({ plan: keys.slice(1) });
  assert.equal(second.rows, []);
  assert.equal(open({ plan: keys }).rows.length, 1);
});

test('without a plan, earlier rows take their places as they are asked for', () => {
  const first = open();
  for (const key of keys) first.append(measured(key));
  const second = open();
  assert.equal(second.rows, []);
  assert.is(second.get(keys[0] ?? {})?.context, 1);
  second.append(measured(keys[1] ?? {}));
  assert.is(text('sweep.csv').split('\n').length, 4);
});

test('a failed cell is a row of its own and is tried again', () => {
  const writer = open({ plan: keys });
  writer.fail(keys[0] ?? {}, new RunError('needs 3 GiB'));
  writer.append(measured(keys[1] ?? {}));
  assert.is(writer.failures, 1);
  assert.match(text('sweep.csv'), 'yoco,1,,error,needs 3 GiB\nyoco,2,1.235,ok,\n');
  const again = open({ plan: keys });
  assert.is(again.has(keys[0] ?? {}), false);
  assert.is(again.has(keys[1] ?? {}), true);
  assert.throws(() => {
    again.fail(keys[0] ?? {}, new TypeError('a bug'));
  }, 'a bug');
});

test('a result that is NaN or infinite is a failed cell; a timing may be', () => {
  const writer = open({ plan: keys });
  writer.append({ ...measured(keys[0] ?? {}), loss: NaN });
  writer.append({ ...measured(keys[1] ?? {}), loss: -Infinity });
  writer.append(measured(keys[2] ?? {}, Infinity));
  assert.is(writer.failures, 2);
  assert.match(
    text('sweep.csv'),
    /yoco,1,,error,loss is not finite: NaN\nyoco,2,,error,.*-Infinity\nyoco,3,1\.235,ok,\n/,
  );
  assert.is(open({ plan: keys }).rows.length, 1, 'the failed ones are measured again');
});

test('a directory that cannot be written is one clear line', () => {
  const opening = (path: string) => (): unknown =>
    ResultWriter.open(path, schema, { provenance, settings: null });
  const file = at('file');
  appendFileSync(file, '');
  for (const path of [file, join(file, 'below')]) {
    assert.throws(
      opening(path),
      (error: Error) =>
        error instanceof RunError &&
        error.message === `cannot write into ${file}: it is a file, a directory is needed`,
    );
  }
  if (process.platform === 'linux') {
    assert.throws(
      opening('/proc/nowhere/below'),
      /cannot write \/proc\/nowhere\/below: no such file or directory/,
    );
  }
});

test.run();
