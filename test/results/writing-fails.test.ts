/** When results cannot be written: the sweep ends at once, and says what is saved. */
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OutputError, RunError } from '../../src/errors.js';
import { createConfig } from '../../src/model/config.js';
import { collectProvenance } from '../../src/results/provenance.js';
import type { Row, Schema } from '../../src/results/schema.js';
import { ResultWriter } from '../../src/results/writer.js';
import { sweepModels } from '../../src/sweep/sweep.js';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { skipBecause } from '../skip.js';

const test = suite('results that cannot be written');
const at = scratchDirectory(test);

const schema: Schema = {
  name: 'sweep',
  columns: [
    { name: 'context', kind: 'key', description: '' },
    { name: 'loss', kind: 'result', description: '' },
  ],
};
const plan = [1, 2, 3, 4].map((context): Row => ({ context }));
const provenance = collectProvenance({ command: ['sweep'], flags: {} });
const open = (directory: string): ResultWriter =>
  ResultWriter.open(directory, schema, { provenance, settings: null, plan });
const journal = (directory: string): string => `${directory}/sweep.cells.jsonl`;

/** Puts a directory in the place of a file, which then cannot be written. */
function occupy(file: string): void {
  rmSync(file);
  mkdirSync(file);
}

/** Runs the sweep with `before` called before each cell; returns the contexts measured and the error. */
async function sweep(
  writer: ResultWriter,
  before: (context: number) => void,
): Promise<[measured: number[], error: unknown]> {
  const measured: number[] = [];
  const config = createConfig({
    architecture: 'transformer',
    dim: 16,
    layers: 2,
    heads: 2,
    hiddenDim: 24,
    vocabSize: 8,
  });
  const choice = { name: 'x', config };
  const engine = {
    ...{ storage: 'float32', memory: () => ({ liveBytes: 0 }), availableBytes: () => 2 ** 30 },
  } as never;
  try {
    await sweepModels({
      ...{ engine, seed: 1, table: writer, unitsOf: () => 1 },
      parts: [{ choice, keys: plan, open: () => Promise.resolve({ dispose: () => undefined } as never) }],
      measure: (_open, { context }: Row) => {
        measured.push(Number(context));
        before(Number(context));
        return Promise.resolve({ loss: 1 });
      },
    });
    writer.close();
    return [measured, null];
  } catch (error) {
    return [measured, error];
  }
}

if (process.platform === 'linux')
  test('a full disk ends the sweep at the first write, and good cells are not called errors', async () => {
    const directory = at('full');
    const writer = open(directory);
    // The journal is opened when the first cell is known.
    rmSync(journal(directory));
    symlinkSync('/dev/full', journal(directory));
    const [measured, error] = await sweep(writer, () => undefined);
    assert.equal(measured, [1]);
    assert.instance(error, OutputError);
    assert.match(
      (error as Error).message,
      /^cannot write .*sweep\.cells\.jsonl: no space left on the device.*; 0 finished cells are saved in .*full, the same command resumes$/,
    );
    assert.is(readFileSync(`${directory}/sweep.csv`, 'utf8'), 'context,loss,status,error\n');
    // Closing writes no more, so that no other error takes the place of this one.
    occupy(`${directory}/sweep.run.json`);
    writer.close();
  });
else skipBecause('there is no /dev/full', test, 'full disk');

test('what is saved is said also where only the description of the run cannot be written', async () => {
  const directory = at('described');
  const writer = open(directory);
  occupy(`${directory}/sweep.run.json`);
  const [measured, error] = await sweep(writer, () => undefined);
  assert.equal(measured, [1, 2, 3, 4]);
  assert.match(
    (error as Error).message,
    /4 finished cells are saved in .*described, the same command resumes/,
  );
});

test('a directory that is deleted or moved away while it is written to is an error', async () => {
  const destroy: Record<string, (directory: string) => void> = {
    deleted: (directory) => { rmSync(directory, { recursive: true }); },
    moved: (directory) => { renameSync(directory, `${directory}-away`); },
    replaced: (directory) => {
      rmSync(directory, { recursive: true });
      mkdirSync(directory);
    },
  }; // prettier-ignore
  for (const [name, act] of Object.entries(destroy)) {
    const directory = at(name);
    const [measured, error] = await sweep(open(directory), (context) => {
      if (context === 2) act(directory);
    });
    assert.equal(measured, [1, 2], name);
    assert.instance(error, OutputError);
    assert.match((error as Error).message, 'was moved or deleted while this command was writing to it');
  }
  const directory = at('last');
  const [, error] = await sweep(open(directory), () => undefined);
  assert.is(error, null);
  const writer = open(at('closing'));
  writer.append({ context: 1, loss: 1 });
  rmSync(at('closing'), { recursive: true });
  assert.throws(() => { writer.close(); }, (thrown: unknown) => thrown instanceof OutputError); // prettier-ignore
});

test('memory that cannot be had for a cell is a row, and the sweep continues', async () => {
  const directory = at('memory');
  const writer = open(directory);
  const [measured, error] = await sweep(writer, (context) => {
    if (context === 2) new Float32Array(2 ** 52);
    if (context === 3)
      throw new Error('ONNX Runtime: Failed to allocate memory for requested buffer of size 7');
  });
  assert.is(error, null);
  assert.equal(measured, [1, 2, 3, 4]);
  assert.is(writer.failures, 2);
  assert.match(
    readFileSync(`${directory}/sweep.csv`, 'utf8'),
    /\n2,,error,"not enough memory.*\n3,,error,"not enough.*\n4,1,ok/,
  );
});

test('a long message with control characters is cut and escaped in the table', () => {
  const directory = at('long');
  const writer = open(directory);
  writer.fail({ context: 1 }, new RunError(`\u001b[2J${'x'.repeat(1e6)}`));
  writer.close();
  const text = readFileSync(`${directory}/sweep.csv`, 'utf8');
  assert.ok(text.length < 5000);
  assert.match(text, '\\u001b[2Jxxx');
});

test('a journal of another shape names line and field; a line cut short by a crash is dropped', () => {
  const directory = at('journal');
  const first = open(directory);
  first.append({ context: 1, loss: 1 });
  first.close();
  const good = readFileSync(journal(directory), 'utf8');
  const cases: [string, RegExp][] = [
    ['null', /sweep\.cells\.jsonl, line 2: expected Object, found null; delete the line/],
    ['[]', /line 2: .*hash/],
    ['{"hash":7,"row":{}}', /line 2: hash: expected string, found 7/],
    ['{"hash":"ab","row":null}', /line 2: row: expected Object/],
    ['{"hash":"ab","row":{"loss":[1]}}', /line 2: row\.loss: .*found a list/],
    ['{"hash"', /line 2: not valid JSON/],
  ];
  for (const [line, message] of cases) {
    writeFileSync(journal(directory), `${good}${line}\n`);
    assert.throws(
      () => open(directory),
      (error: Error) => error instanceof RunError && message.test(error.message),
      line,
    );
  }
  writeFileSync(journal(directory), good);
  appendFileSync(journal(directory), '{"hash":"cut sho');
  const again = open(directory);
  assert.is(again.has({ context: 1 }), true);
  again.close();
});

test.run();
