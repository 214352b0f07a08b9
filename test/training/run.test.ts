import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel } from '../../src/checkpoint/load.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { SOLO } from '../../src/distributed/communicator.js';
import { RunError } from '../../src/errors.js';
import * as tf from '../../src/tf.js';
import { rejects, scratchDirectory } from '../checkpoint/scratch.js';
import { usePlainBackend } from '../plain-backend.js';
import { results, SMALL_ENGINE, trainSmall, writeCorpus } from './small-run.js';

const test = suite('training/run');
const at = scratchDirectory(test);

test.before(usePlainBackend);

test('a run leaves its log, its checkpoints, and nothing else', async () => {
  const { status, step, tokens, rows, checkpoint } = await trainSmall(at('run'), writeCorpus(at('text.txt')));
  assert.equal([status, step, tokens, rows.length], ['finished', 10, 320, 10]);
  assert.equal(readdirSync(at('run')).sort(), [
    'checkpoints',
    'held-out.cells.jsonl',
    'held-out.csv',
    'held-out.run.json',
    'train.cells.jsonl',
    'train.csv',
    'train.run.json',
    'train.timings.csv',
  ]);
  assert.equal(readdirSync(at('run/checkpoints')).sort(), ['step-00000009', 'step-00000010']);
  const lines = readFileSync(at('run/train.csv'), 'utf8').trim().split('\n');
  assert.is(lines.length, 11);
  assert.is(
    lines[0],
    'step,tokens,loss,bits_per_byte,answer_loss,held_out_loss,held_out_answer_loss,learning_rate,gradient_norm,epochs,status,error',
  );
  const measured = lines.slice(1).map((line) => line.split(',')[5] !== '');
  assert.equal(measured.map((flag, index) => (flag ? index + 1 : 0)).filter(Boolean), [4, 8, 10]);
  const { provenance, tokenizer, context } = openCheckpoint(checkpoint);
  assert.equal([tokenizer, context], ['bytes', 16]);
  assert.ok(JSON.stringify(provenance).includes('"seed":1'));
});

test('no tensor is left behind', async () => {
  const text = writeCorpus(at('text.txt'));
  await trainSmall(at('a'), text);
  const before = tf.memory().numTensors;
  await trainSmall(at('b'), text);
  assert.is(tf.memory().numTensors, before);
  assert.equal(results(at('b')), results(at('a')));
});

test('a model learns a short text by heart', async () => {
  const { rows } = await trainSmall(at('run'), writeCorpus(at('text.txt')), {
    recipe: { steps: 60, learningRate: 3e-2 },
  });
  const [first, last] = [rows[0]?.loss, rows.at(-1)?.loss] as [number, number];
  assert.ok(first > 5.3 && last < 2.2, `from ${first} to ${last}`);
});

test('signals are heeded from the first step on, and between its micro-batches', async () => {
  const text = writeCorpus(at('text.txt'));
  let begun = 0;
  const onBegin = (): void => void (begun += 1);
  await rejects(trainSmall(at('run'), text, { recipe: { length: 10_000 }, onBegin }), /more text/);
  assert.is(begun, 0);
  let stopped = false;
  const communicator = {
    ...SOLO,
    get size() {
      if (stopped) throw new RunError('stopped by a timer');
      return 1;
    },
  };
  const later = (): void => {
    begun += 1;
    setTimeout(() => (stopped = true), 1);
  };
  const run = trainSmall(at('run'), text, { recipe: { accumulate: 2 ** 32 }, communicator, onBegin: later });
  await rejects(run, /stopped by a timer/);
  assert.is(begun, 1);
});

test('a theta of the recipe changes what is computed', async () => {
  const text = writeCorpus(at('text.txt'));
  const losses = async (ropeTheta?: number): Promise<unknown[]> =>
    (await trainSmall(at(`theta-${String(ropeTheta)}`), text, { recipe: { steps: 2, ropeTheta } })).rows.map(
      ({ loss }) => loss,
    );
  const usual = await losses();
  assert.equal(await losses(10_000), usual);
  assert.not.equal(await losses(50), usual);
});

test("another run's directory is not touched", async () => {
  const text = writeCorpus(at('text.txt'));
  await trainSmall(at('run'), text);
  const before = results(at('run'));
  await rejects(
    trainSmall(at('run'), text, { recipe: { learningRate: 2e-2, minLearningRate: 1e-3, clip: 2 } }),
    /holds a run with other settings \(optimizer\.learningRate 0\.01 → 0\.02, optimizer\.clip 1 → 2\): choose another --out, or --no-resume/,
  );
  writeFileSync(text, `${readFileSync(text, 'utf8')} more`);
  await rejects(trainSmall(at('run'), text), /data\.corpus/);
  assert.equal(results(at('run')), before);
  await trainSmall(at('run'), text, { resume: false });
  assert.not.equal(results(at('run')), before);
});

test('begins with the weights of a checkpoint', async () => {
  const text = writeCorpus(at('text.txt'));
  const first = await trainSmall(at('first'), text);
  const checkpoint = openCheckpoint(at('first'));
  const { rows } = await trainSmall(at('second'), text, {
    initial: { checkpoint, sha256: 'x' },
    recipe: { steps: 1, warmup: 0 },
  });
  checkpoint.tensors.close();
  assert.ok((rows[0]?.loss as number) < (first.rows[4]?.loss as number));
  const { model } = loadModel(at('second'));
  model.dispose();
});

test('what does not fit in memory is said before the work starts', async () => {
  const text = writeCorpus(at('text.txt'));
  const engine = { ...SMALL_ENGINE, availableBytes: () => 200_000 };
  await rejects(
    trainSmall(at('run'), text, { engine }),
    /training on 2 x 16 tokens without --recompute needs \d+ bytes \(.*\), available are 200000 bytes/,
  );
  assert.equal(existsSync(at('run')), false);
});

test('learns needles in stages', async () => {
  const text = writeCorpus(at('text.txt'));
  const stages = [
    { steps: 2, batch: 2, length: 384, minNeedles: 1, maxNeedles: 2 },
    { steps: 1, batch: 1, length: 512, minNeedles: 1, maxNeedles: 3, answersOnly: true },
  ];
  const recipe = {
    task: 'needle',
    stages,
    steps: undefined,
    batch: undefined,
    length: undefined,
    evalEvery: 0,
  } as const;
  const { rows, tokens } = await trainSmall(at('run'), text, { recipe });
  assert.is(tokens, 2 * 2 * 384 + 512);
  assert.equal(
    rows.map(({ loss }) => loss !== null),
    [true, true, false],
  );
  assert.ok(rows.every(({ answer_loss: loss }) => typeof loss === 'number' && loss > 3));
  assert.is(typeof rows.at(-1)?.held_out_answer_loss, 'number');
});

test.run();
