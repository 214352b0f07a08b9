import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EventFile } from '../../src/training/event-file.js';
import { refuses } from '../checkpoint/scratch.js';
import { trainSmall } from './small-run.js';
import { usePlainBackend } from '../plain-backend.js';
import type { TrainProgress } from '../../src/training/run-training.js';

const test = suite('training/event-file');
let directory = '';
test.before(usePlainBackend);
test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-events-'));
});
test.after.each(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** What the Python package tensorboard 2.20 (RecordWriter, Event) writes for the same events. */
const REFERENCE =
  '1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c' +
  '0f000000000000006d532b0909000000000000f83f10073a020801774771c7' +
  '2a00000000000000ae8d91f509000000000000f83f10072a1d0a110a0a747261696e2f6c6f737315000010400a080a016215000080bf732d964c';

test('events are the bytes that TensorBoard itself writes', () => {
  const file = new EventFile(directory, () => 1.5);
  file.append(
    7,
    new Map([
      ['train/loss', 2.25],
      ['b', -1],
    ]),
  );
  file.close();
  const [name = ''] = readdirSync(directory);
  assert.match(name, /^events\.out\.tfevents\.1\./);
  assert.is(readFileSync(join(directory, name)).toString('hex'), REFERENCE);
  refuses(() => {
    new EventFile(join(directory, name, 'below')).append(1, new Map());
  }, /cannot write/);
});

test('a run with a mixture leaves events, epochs, rates and bits per byte; it resumes with the same tables', async () => {
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const a = file('a.txt', 'the quick brown fox jumps over the lazy dog. '.repeat(20));
  const b = file('b.txt', 'abababababababababababab'.repeat(90));
  const recipe = { steps: 6, evalEvery: 2, data: [`a=${a}:3`, `b=${b}:1`] };
  const options = { recipe, tensorboard: true };
  const { steps } = await trainSmall(join(directory, 'whole'), a, { ...options, mfu: true });
  const last = steps.at(-1);
  const { bitsPerByte, loss, epochs: most, mfu } = last ?? {};
  assert.ok(bitsPerByte && loss && most && mfu && last);
  // A byte is a token, but for the ends of documents.
  assert.ok(Math.abs((bitsPerByte * Math.LN2) / loss - 1) < 0.01);
  assert.ok(mfu > 0 && last.flopsPerSecond > 0);
  const out = join(directory, 'run');
  const controller = new AbortController();
  const onProgress = ({ step }: TrainProgress): void => {
    if (step.step === 2) controller.abort();
  };
  await trainSmall(out, a, { ...options, signal: controller.signal, onProgress });
  await trainSmall(out, a, options);
  const read = (run: string, name: string): string => readFileSync(join(directory, run, name), 'utf8');
  for (const name of ['train.csv', 'held-out.csv', 'sources.csv'])
    assert.is(read('run', name), read('whole', name));
  const rows = read('run', 'sources.csv')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(','));
  assert.equal(
    rows.map(([step, source, tokens]) => [step, source, tokens]),
    [
      ['2', 'a', '48'],
      ['2', 'b', '16'],
      ['4', 'a', '96'],
      ['4', 'b', '32'],
      ['6', 'a', '144'],
      ['6', 'b', '48'],
    ],
  );
  const epochs = Number(rows[4]?.[4]);
  assert.ok(Math.abs(epochs - 144 / (900 * 0.95)) < 0.002, String(epochs));
  assert.ok(Math.abs(most - epochs) < 1e-4);
  assert.ok(readdirSync(join(out, 'tensorboard')).length > 0);
});

test.run();
