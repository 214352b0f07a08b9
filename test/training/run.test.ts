import { spawnSync } from 'node:child_process';
import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel } from '../../src/checkpoint/load.js';
import { readJson, writeJson } from '../../src/checkpoint/files.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { SOLO } from '../../src/distributed/communicator.js';
import { RunError } from '../../src/errors.js';
import { createConfig } from '../../src/model/index.js';
import * as tf from '../../src/tf.js';
import { rejects, scratchDirectory } from '../checkpoint/scratch.js';
import type { TrainProgress } from '../../src/training/run-training.js';
import { usePlainBackend } from '../plain-backend.js';
import { SMALL_ENGINE, trainSmall } from './small-run.js';

const test = suite('training/run');
const at = scratchDirectory(test);

test.before(usePlainBackend);

function corpus(): string {
  const path = at('text.txt');
  const words = ['the', 'whale', 'and', 'sea', 'of', 'ship', 'man'];
  const text = Array.from({ length: 600 }, (_, index) => words[(index * index) % 7]).join(' ');
  if (!existsSync(path)) writeFileSync(path, text);
  return path;
}

/** What a run must leave, however it came about. */
function results(run: string): Record<string, string> {
  const names = [
    'train.csv',
    'checkpoints/step-00000010/model.safetensors',
    'checkpoints/step-00000010/training.safetensors',
  ];
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(run, name)).toString('hex')]));
}

test('a run leaves its log, its checkpoints, and nothing else', async () => {
  const { status, step, tokens, rows, checkpoint } = await trainSmall(at('run'), corpus());
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
  const text = corpus();
  await trainSmall(at('a'), text);
  const before = tf.memory().numTensors;
  await trainSmall(at('b'), text);
  assert.is(tf.memory().numTensors, before);
  assert.equal(results(at('b')), results(at('a')));
});

test('a model learns a short text by heart', async () => {
  const { rows } = await trainSmall(at('run'), corpus(), { recipe: { steps: 60, learningRate: 3e-2 } });
  const [first, last] = [rows[0]?.loss, rows.at(-1)?.loss] as [number, number];
  assert.ok(first > 5.3 && last < 2.2, `from ${first} to ${last}`);
});

test('Ctrl-C saves, and the run goes on as if nothing had happened', async () => {
  const text = corpus();
  await trainSmall(at('whole'), text);
  for (const stopAt of [2, 5, 7]) {
    const controller = new AbortController();
    const onProgress = ({ step }: TrainProgress): void => {
      if (step.step === stopAt) controller.abort();
    };
    const { status, step } = await trainSmall(at('run'), text, { signal: controller.signal, onProgress });
    assert.equal([status, step], ['interrupted', stopAt + 1]);
  }
  const { status } = await trainSmall(at('run'), text);
  assert.is(status, 'finished');
  assert.equal(results(at('run')), results(at('whole')));
  // A finished run has nothing to do.
  const again = await trainSmall(at('run'), text, {
    onProgress: () => {
      assert.unreachable('no step is due');
    },
  });
  assert.equal([again.status, again.rows.length], ['finished', 10]);
});

test('a snapshot that cannot be written says from which one the run resumes', async () => {
  const text = corpus();
  const onProgress = ({ step }: TrainProgress): void => {
    if (step.step !== 5) return;
    // The directory of snapshots becomes a file, in which nothing can be made.
    renameSync(at('run/checkpoints'), at('run/away'));
    writeFileSync(at('run/checkpoints'), '');
  };
  const run = trainSmall(at('run'), text, { onProgress });
  await rejects(run, /not a directory.*; .*step-00000003 is complete, the same command resumes there/);
  rmSync(at('run/checkpoints'));
  renameSync(at('run/away'), at('run/checkpoints'));
  const { status, rows } = await trainSmall(at('run'), text);
  assert.equal([status, rows.length], ['finished', 10]);
});

test('signals are heeded from the first step on, and between its micro-batches', async () => {
  const text = corpus();
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

test('runs of other layouts resume as if nothing had happened', async () => {
  const text = corpus();
  const size = { dim: 16, layers: 2, hiddenDim: 24, heads: 2, kvHeads: 1, vocabSize: 264 };
  for (const layout of ['cla', 'retention memory embeddings cross']) {
    const config = createConfig({ ...size, layout });
    rmSync(at('whole'), { recursive: true, force: true });
    rmSync(at('run'), { recursive: true, force: true });
    await trainSmall(at('whole'), text, { config });
    const controller = new AbortController();
    const onProgress = ({ step }: TrainProgress): void => {
      if (step.step === 5) controller.abort();
    };
    await trainSmall(at('run'), text, { config, signal: controller.signal, onProgress });
    await trainSmall(at('run'), text, { config });
    assert.equal(results(at('run')), results(at('whole')), layout);
  }
});

test('stages of other lengths, thetas and schedules resume exactly; the checkpoint has the last theta', async () => {
  const text = corpus();
  const recipe = {
    ...{ steps: undefined, batch: undefined, length: undefined },
    stages: [
      { steps: 4, batch: 2, length: 16 },
      { steps: 3, batch: 1, length: 32, ropeTheta: 640_000, learningRate: 5e-3, warmup: 1 },
      { steps: 3, batch: 1, length: 48, ropeTheta: 5e6, learningRate: 1e-3, decay: 'constant' as const },
    ],
  };
  await trainSmall(at('whole'), text, { recipe });
  for (const stop of [3, 4, 6]) {
    rmSync(at('run'), { recursive: true, force: true });
    const controller = new AbortController();
    const onProgress = ({ step }: TrainProgress): void => {
      if (step.step === stop) controller.abort();
    };
    await trainSmall(at('run'), text, { recipe, signal: controller.signal, onProgress });
    const left = openCheckpoint(at('run'));
    left.tensors.close();
    assert.equal([left.config.ropeTheta, left.context], stop === 3 ? [10_000, 16] : [640_000, 32]);
    await trainSmall(at('run'), text, { recipe });
    assert.equal(results(at('run')), results(at('whole')), `stopped after ${stop + 1}`);
  }
  const { config, context, tensors } = openCheckpoint(at('run'));
  tensors.close();
  assert.equal([config.ropeTheta, context], [5e6, 48]);
  const changed = recipe.stages.map((stage) => ({
    ...stage,
    ...(stage.length === 48 && { ropeTheta: 6e6 }),
  }));
  await rejects(trainSmall(at('run'), text, { recipe: { ...recipe, stages: changed } }), /stages .*6000000/);
});

test('a theta of the recipe changes what is computed', async () => {
  const text = corpus();
  const losses = async (ropeTheta?: number): Promise<unknown[]> =>
    (await trainSmall(at(`theta-${String(ropeTheta)}`), text, { recipe: { steps: 2, ropeTheta } })).rows.map(
      ({ loss }) => loss,
    );
  const usual = await losses();
  assert.equal(await losses(10_000), usual);
  assert.not.equal(await losses(50), usual);
});

test('killed at any file operation it goes on as if nothing had happened', async () => {
  const text = corpus();
  await trainSmall(at('whole'), text);
  const child = fileURLToPath(new URL('crash-child.ts', import.meta.url));
  const run = (crashAt: number): string | null =>
    spawnSync(process.execPath, ['--import', 'tsx', child, at('run'), text, String(crashAt)]).signal;
  // Before the second snapshot takes its name; between two rows' files; while the oldest snapshot is removed.
  for (const crashAt of [210, 110, 107]) assert.is(run(crashAt), 'SIGKILL');
  assert.is(run(0), null);
  assert.equal(results(at('run')), results(at('whole')));
  assert.equal(readdirSync(at('run/checkpoints')).sort(), ['step-00000009', 'step-00000010']);
});

test('falls back to the snapshot before when the log has lost its end', async () => {
  const text = corpus();
  await trainSmall(at('run'), text);
  const expected = results(at('run'));
  const journal = at('run/train.cells.jsonl');
  const lines = readFileSync(journal, 'utf8').split('\n');
  writeFileSync(journal, lines.slice(0, 9).join('\n') + '\n');
  await trainSmall(at('run'), text);
  assert.equal(results(at('run')), expected);
  writeFileSync(journal, lines.slice(0, 5).join('\n') + '\n');
  await rejects(trainSmall(at('run'), text), /lacks rows: start over with --no-resume/);
});

test("another run's directory is not touched", async () => {
  const text = corpus();
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
  const text = corpus();
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

test('damaged snapshots and unfit input are said in one line', async () => {
  const text = corpus();
  const { checkpoint } = await trainSmall(at('run'), text);
  truncateSync(join(checkpoint, 'training.safetensors'), 1000);
  await rejects(trainSmall(at('run'), text), /training\.safetensors: truncated/);
  writeJson(join(checkpoint, 'training.json'), {
    ...readJson(join(checkpoint, 'training.json')),
    step: 'ten',
  });
  await rejects(trainSmall(at('run'), text), /training\.json: step: expected number, found "ten"/);
  const config = createConfig({ dim: 16, layers: 2, hiddenDim: 24, heads: 2, vocabSize: 100 });
  await rejects(
    trainSmall(at('other'), text, { config }),
    /tokenizer 'bytes' has \d+ tokens but the model's vocabulary has 100/,
  );
  await rejects(trainSmall(at('other'), at('absent.txt')), /no such file or directory: .*absent\.txt/);
  await rejects(
    trainSmall(at('other'), text, { recipe: { learningRate: 1e30, minLearningRate: 1, warmup: 0, clip: 0 } }),
    /step \d+: the gradient is not a finite number, training has diverged/,
  );
  rmSync(at('run'), { recursive: true });
  writeFileSync(at('run'), '');
  await rejects(trainSmall(at('run'), text), /cannot write .*run/);
});

test('what does not fit in memory is said before the work starts', async () => {
  const text = corpus();
  const engine = { ...SMALL_ENGINE, availableBytes: () => 200_000 };
  await rejects(
    trainSmall(at('run'), text, { engine }),
    /training on 2 x 16 tokens without --recompute needs \d+ bytes \(.*\), available are 200000 bytes/,
  );
  assert.equal(existsSync(at('run')), false);
});

test('learns needles in stages', async () => {
  const text = corpus();
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
