import { spawnSync } from 'node:child_process';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readJson, writeJson } from '../../src/checkpoint/files.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { createConfig } from '../../src/model/index.js';
import type { TrainProgress } from '../../src/training/run-training.js';
import { rejects, scratchDirectory } from '../checkpoint/scratch.js';
import { program } from '../cli/program.js';
import { usePlainBackend } from '../plain-backend.js';
import { results, trainSmall, writeCorpus } from './small-run.js';

const test = suite('training/resume');
const at = scratchDirectory(test);

/** What the usual run leaves when nothing stops it. */
let whole: Record<string, string> = {};
test.before(async () => {
  await usePlainBackend();
  const directory = mkdtempSync(join(tmpdir(), 'yoco-whole-'));
  await trainSmall(join(directory, 'run'), writeCorpus(join(directory, 'text.txt')));
  whole = results(join(directory, 'run'));
  rmSync(directory, { recursive: true });
});

test('Ctrl-C saves, and the run goes on as if nothing had happened', async () => {
  const text = writeCorpus(at('text.txt'));
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
  assert.equal(results(at('run')), whole);
  // A finished run has nothing to do.
  const again = await trainSmall(at('run'), text, {
    onProgress: () => {
      assert.unreachable('no step is due');
    },
  });
  assert.equal([again.status, again.rows.length], ['finished', 10]);
});

test('a snapshot that cannot be written says from which one the run resumes', async () => {
  const text = writeCorpus(at('text.txt'));
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

test('runs of other layouts resume as if nothing had happened', async () => {
  const text = writeCorpus(at('text.txt'));
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
  const text = writeCorpus(at('text.txt'));
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

test('killed at any file operation it goes on as if nothing had happened', async () => {
  const text = writeCorpus(at('text.txt'));
  const child = fileURLToPath(new URL('crash-child.ts', import.meta.url));
  const words = [...(await program(child)), at('run'), text];
  const run = (crashAt: number): string | null =>
    spawnSync(process.execPath, [...words, String(crashAt)]).signal;
  // Before the second snapshot takes its name; between two rows' files; while the oldest snapshot is removed.
  for (const crashAt of [210, 110, 107]) assert.is(run(crashAt), 'SIGKILL');
  await trainSmall(at('run'), text);
  assert.equal(results(at('run')), whole);
  assert.equal(readdirSync(at('run/checkpoints')).sort(), ['step-00000009', 'step-00000010']);
});

test('falls back to the snapshot before when the log has lost its end', async () => {
  const text = writeCorpus(at('text.txt'));
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

test('damaged snapshots and unfit input are said in one line', async () => {
  const text = writeCorpus(at('text.txt'));
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

test.run();
