import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { heldOutCells } from '../../src/training/held-out.js';
import { trainSmall } from './small-run.js';

const test = suite('training/held-out');
let directory = '';
test.before(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-held-out-'));
});
test.after(() => {
  rmSync(directory, { recursive: true, force: true });
});

const sums = (source: number, text: number, targets: number, repeated: number, repeatedTargets: number) => ({
  ...{ source, text, textTargets: targets, repeated, repeatedTargets },
  ...{ answer: 0, answerTargets: 0 },
});

test('each text has the losses of its own batches', () => {
  const sources = [
    { name: 'a', bytesPerToken: 4 },
    { name: 'b', bytesPerToken: 1 },
  ];
  const cells = heldOutCells(3, sources, [sums(0, 10, 5, 2, 2), sums(0, 6, 3, 1, 1), sums(1, 8, 2, 0, 0)]);
  assert.equal(cells, [
    {
      ...{ step: 3, source: 'a', targets: 8, loss: 2, arHitLoss: 1, firstOccurLoss: 13 / 5 },
      ...{ arHitShare: 3 / 8, bitsPerByte: 2 / Math.LN2 / 4 },
    },
    {
      ...{ step: 3, source: 'b', targets: 2, loss: 4, arHitLoss: null, firstOccurLoss: 4 },
      ...{ arHitShare: 0, bitsPerByte: 4 / Math.LN2 },
    },
  ]);
});

test('a run measures every text that it is given, and resumes with what it has logged', async () => {
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const train = file('train.txt', 'the quick brown fox jumps over the lazy dog. '.repeat(40));
  const heldOut = [
    file('same.txt', 'abababababababababababab'.repeat(4)),
    file('other.txt', 'pqrstuvwxyz '.repeat(9)),
  ];
  const out = join(directory, 'run');
  const recipe = { steps: 4, evalEvery: 2, checkpointEvery: 2, heldOut };
  await trainSmall(out, train, { recipe });
  const text = readFileSync(join(out, 'held-out.csv'), 'utf8');
  const rows = text
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(','));
  assert.equal(
    rows.map(([step, source]) => [step, source]),
    [
      ['2', 'same.txt'],
      ['2', 'other.txt'],
      ['4', 'same.txt'],
      ['4', 'other.txt'],
    ],
  );
  // Of windows of 17 bytes `abab…` the first two pairs are new.
  assert.is(Number(rows[0]?.[6]), 14 / 16);
  const { steps } = await trainSmall(out, train, { recipe });
  const held = steps.at(-1)?.heldOutLoss ?? NaN;
  const [same, other] = rows.slice(2).map((row) => ({ targets: Number(row[2]), loss: Number(row[3]) }));
  assert.ok(same && other);
  const mean = (same.loss * same.targets + other.loss * other.targets) / (same.targets + other.targets);
  assert.ok(Math.abs(held - mean) < 1e-5, `${held} ${mean}`);
  assert.is(readFileSync(join(out, 'held-out.csv'), 'utf8'), text);
});

test.run();
