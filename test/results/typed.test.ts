import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RunError } from '../../src/errors.js';
import { cellOf, CellTable, MemoryRows, rowOf, type TableSchema } from '../../src/results/typed.js';

const test = suite('typed cells');

interface Key {
  readonly model: string;
  readonly contextTokens: number;
}
interface Figures {
  readonly kvCacheBytes: number;
  readonly secondsSd: number | null;
}
const SCHEMA: TableSchema<Key, Figures> = {
  name: 'sample',
  columns: [
    { name: 'model', kind: 'key', description: '' },
    { name: 'context_tokens', kind: 'key', description: '' },
    { name: 'kv_cache_bytes', kind: 'result', description: '' },
    { name: 'seconds_sd', kind: 'timing', description: '' },
  ],
};
const at = (contextTokens: number): Key => ({ model: 'a', contextTokens });

test('fields in camel case become columns in snake case, and back', () => {
  const cell = { ...at(4), kvCacheBytes: 8, secondsSd: null };
  const row = rowOf(SCHEMA, cell);
  assert.equal(row, { model: 'a', context_tokens: 4, kv_cache_bytes: 8, seconds_sd: null });
  assert.equal(cellOf(SCHEMA, { ...row, status: 'ok' }), { ...cell, status: 'ok', error: null });
});

test('a field without a column is an error, not a loss', () => {
  assert.throws(
    () => rowOf(SCHEMA, { ...at(4), seconds: 1 }),
    /sample has no column for the field 'seconds'/,
  );
});

test('a table without files keeps the order of the plan, failures and figures', () => {
  const plan = [at(4), at(2), at(1)];
  const rows = new MemoryRows(
    SCHEMA,
    plan.map((key) => rowOf(SCHEMA, key)),
  );
  const table = new CellTable<Key, Figures>(SCHEMA, rows);
  table.append({ ...at(1), kvCacheBytes: 2, secondsSd: 0.5 });
  table.fail(at(2), new RunError('does not fit'));
  assert.not(table.has(at(4)));
  table.append({ ...at(4), kvCacheBytes: 8, secondsSd: null });
  assert.equal(
    table.cells.map((cell) => [cell.contextTokens, cell.kvCacheBytes, cell.status, cell.error]),
    [
      [4, 8, 'ok', null],
      [2, null, 'error', 'does not fit'],
      [1, 2, 'ok', null],
    ],
  );
  assert.equal(table.figures(at(1)), { kvCacheBytes: 2, secondsSd: 0.5 });
  assert.is(table.figures(at(2)), undefined);
  assert.throws(() => {
    table.fail(at(2), new TypeError('a fault of ours'));
  }, /a fault of ours/);
});

test.run();
