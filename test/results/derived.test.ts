import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { writeDerived } from '../../src/results/derived.js';
import type { Schema } from '../../src/results/schema.js';

const schema: Schema = {
  name: 'sweep-ratio',
  columns: [
    { name: 'context', kind: 'key', description: '' },
    { name: 'total_ratio', kind: 'result', description: '', digits: 2 },
    { name: 'seconds_ratio', kind: 'timing', description: '' },
  ],
};

const test = suite('derived tables');
let directory = '';
test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-derived-'));
});
test.after.each(() => {
  rmSync(directory, { recursive: true, force: true });
});

test('results and timings are written apart', () => {
  const files = writeDerived(directory, {
    schema,
    rows: [{ context: 1, total_ratio: 2.345, seconds_ratio: 3 }],
  });
  assert.equal(
    files.map((file) => readFileSync(file, 'utf8')),
    ['context,total_ratio\n1,2.35\n', 'context,seconds_ratio\n1,3\n'],
  );
});

test('a table without rows leaves no file, nor one of an earlier run', () => {
  assert.equal(writeDerived(directory, { schema, rows: [] }), []);
  const files = writeDerived(directory, { schema, rows: [{ context: 1, total_ratio: 2, seconds_ratio: 3 }] });
  assert.ok(files.every((file) => existsSync(file)));
  assert.equal(writeDerived(directory, { schema, rows: [] }), []);
  assert.equal(readdirSync(directory), []);
});

test.run();
