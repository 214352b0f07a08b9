import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { scratchDirectory } from '../checkpoint/scratch.js';
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
const at = scratchDirectory(test);

test('results and timings are written apart', () => {
  const files = writeDerived(at(), {
    schema,
    rows: [{ context: 1, total_ratio: 2.345, seconds_ratio: 3 }],
  });
  assert.equal(
    files.map((file) => readFileSync(file, 'utf8')),
    ['context,total_ratio\n1,2.35\n', 'context,seconds_ratio\n1,3\n'],
  );
});

test('a table without rows leaves no file, nor one of an earlier run', () => {
  assert.equal(writeDerived(at(), { schema, rows: [] }), []);
  const files = writeDerived(at(), { schema, rows: [{ context: 1, total_ratio: 2, seconds_ratio: 3 }] });
  assert.ok(files.every((file) => existsSync(file)));
  assert.equal(writeDerived(at(), { schema, rows: [] }), []);
  assert.equal(readdirSync(at()), []);
});

test.run();
