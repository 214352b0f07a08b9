/** Several runs, one table: what an earlier run wrote stays, at its place, until it is measured again. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hashOf } from '../../src/results/canonical.js';
import { writeDerived } from '../../src/results/derived.js';
import { toolkitVersion } from '../../src/package-root.js';
import { collectProvenance } from '../../src/results/provenance.js';
import { readResultRows } from '../../src/results/read.js';
import type { Row, Schema } from '../../src/results/schema.js';
import { ResultWriter, type WriterOptions } from '../../src/results/writer.js';
import { scratchDirectory } from '../checkpoint/scratch.js';

const test = suite('rows of earlier runs');
const at = scratchDirectory(test);

const schema: Schema = {
  name: 'sweep',
  columns: [
    { name: 'model', kind: 'key', description: '' },
    { name: 'context', kind: 'key', description: '' },
    { name: 'loss', kind: 'result', description: '', digits: 3 },
    { name: 'seconds', kind: 'timing', description: '' },
  ],
};
const key = (model: string, context: number): Row => ({ model, context });
const collected = collectProvenance({ command: [], flags: {} });
const provenance = (...command: string[]) => ({ ...collected, command: ['yoco', ...command] });

let directories = 0;
/** A directory of its own, and what runs a sweep in it. */
function place(): {
  directory: string;
  run: (plan: Row[], options?: Partial<WriterOptions>) => ResultWriter;
} {
  directories += 1;
  const directory = at(`run-${directories}`);
  const run = (plan: Row[], options: Partial<WriterOptions> = {}): ResultWriter => {
    const common = { provenance: provenance('sweep', String(plan.length)), settings: null, plan };
    const writer = ResultWriter.open(directory, schema, { ...common, ...options });
    for (const cell of plan)
      if (!writer.has(cell)) writer.append({ ...cell, loss: Number(cell.context) / 7, seconds: 1 });
    writer.close();
    return writer;
  };
  return { directory, run };
}
const text = (directory: string, name = 'sweep.csv'): string => readFileSync(`${directory}/${name}`, 'utf8');
const keysIn = (directory: string): string[] =>
  readResultRows(`${directory}/sweep.csv`).map(({ model, context }) => `${String(model)}${String(context)}`);

test('a run of other keys keeps them, and says how many', () => {
  const { directory, run } = place();
  run([key('a', 1), key('a', 2)]);
  const second = run([key('b', 1)]);
  assert.equal(keysIn(directory), ['a1', 'a2', 'b1']);
  assert.is(second.rows.length, 1, 'the rows of a run are its own');
  assert.equal(second.remarks, [`${directory}/sweep.csv keeps 2 rows of earlier runs`]);
  assert.match(text(directory, 'sweep.timings.csv'), 'a,2,1\nb,1,1\n');
  const { earlier } = JSON.parse(text(directory, 'sweep.run.json')) as { earlier: { command: string[] }[] };
  assert.equal(
    earlier.map(({ command }) => command),
    [['yoco', 'sweep', '2']],
  );
});

test('the order is stable: running either again leaves the bytes as they are', () => {
  const { directory, run } = place();
  run([key('a', 1), key('a', 2)]);
  run([key('b', 1)]);
  const bytes = text(directory);
  run([key('a', 1), key('a', 2)]);
  assert.is(text(directory), bytes);
  run([key('a', 1), key('a', 2)], { settings: { measured: 'anew' } });
  assert.is(text(directory), bytes);
  run([key('a', 1), key('a', 3)]);
  assert.equal(keysIn(directory), ['a1', 'a3', 'a2', 'b1']);
});

test('--no-resume replaces what was there', () => {
  const { directory, run } = place();
  run([key('a', 1)]);
  run([key('b', 1)], { resume: false });
  assert.equal(keysIn(directory), ['b1']);
});

test('a table that is derived anew each time keeps other keys as well', () => {
  const { directory } = place();
  const derive = (model: string): void => {
    const options = { provenance: provenance('x'), settings: null, resume: false, keepOthers: true };
    const writer = ResultWriter.open(directory, schema, options);
    writer.append({ ...key(model, 1), loss: 1, seconds: 1 });
    writer.close();
  };
  for (const model of ['a', 'b', 'a']) derive(model);
  assert.equal(keysIn(directory), ['a1', 'b1']);
  const table = { schema: { ...schema, name: 'derived' }, rows: [{ ...key('a', 1), loss: 2 }] };
  writeDerived(directory, table, { keepOthers: true });
  writeDerived(directory, { ...table, rows: [] }, { keepOthers: true });
  assert.match(text(directory, 'derived.csv'), 'a,1,2\n');
});

test('a table of other columns is set aside, not lost', () => {
  const { directory, run } = place();
  run([key('a', 1)]);
  writeFileSync(`${directory}/sweep.csv`, 'name,loss\nold,1\n');
  const { remarks } = run([key('b', 1)]);
  assert.match(remarks.join(), 'sweep.csv had other columns, it is now');
  assert.is(text(directory, 'sweep.earlier-1.csv'), 'name,loss\nold,1\n');
  assert.equal(keysIn(directory), ['b1']);
});

test('a file that is no table is an error that names the way out', () => {
  const { directory, run } = place();
  run([key('a', 1)]);
  writeFileSync(`${directory}/sweep.csv`, 'model,context\n"never closed');
  assert.throws(() => run([key('b', 1)]), /cannot read results: .*sweep\.csv.*--no-resume to replace it/);
});

test('more rows resume than a function takes arguments', () => {
  const { directory } = place();
  const plan = Array.from({ length: 130_000 }, (_, context) => key('a', context));
  const columns = schema.columns.map(({ name }) => name);
  const version = toolkitVersion();
  const lines = plan.map((cell) => {
    const hash = hashOf({ key: cell, columns, version, settings: null });
    return `${JSON.stringify({ hash, row: { ...cell, loss: 1, seconds: 1, status: 'ok', error: null } })}\n`;
  });
  mkdirSync(directory);
  writeFileSync(`${directory}/sweep.cells.jsonl`, lines.join(''));
  const options = { provenance: provenance('x'), settings: null, plan };
  const writer = ResultWriter.open(directory, schema, options);
  assert.is(writer.rows.length, plan.length);
  writer.close();
});

test('what a spreadsheet would compute is quoted in the file, and is itself when read', () => {
  const { directory, run } = place();
  const names = ['=1+1', '+1', '-1', '@sum', "'=1", "'twas", '-', '\tx', '=HYPERLINK("a","b")'];
  run(names.map((name) => key(name, -1)));
  const cells = text(directory)
    .split('\n')
    .slice(1, -1)
    .map((line) => line.replace(/^"/, ''));
  for (const cell of cells) assert.match(cell, /^'/);
  assert.match(text(directory), ',-1,-0.143,', 'numbers stay numbers');
  assert.equal(
    readResultRows(`${directory}/sweep.csv`).map(({ model }) => model),
    names,
  );
  run([key('other', 1)]);
  assert.equal(readResultRows(`${directory}/sweep.csv`).length, names.length + 1);
  assert.ok(existsSync(`${directory}/sweep.timings.csv`));
});

test.run();
