import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Snapshots } from '../../src/training/snapshots.js';
import { refuses, rejects, scratchDirectory } from '../checkpoint/scratch.js';
import { usePlainBackend } from '../plain-backend.js';
import { trainSmall } from './small-run.js';

const test = suite('training/snapshots');
const at = scratchDirectory(test);
test.before(usePlainBackend);

const FOREIGN = ['best', 'step-00000001.tmp', 'step-1.99.old', 'needle-nano', 'step-00000007'] as const;

function fill(directory: string): void {
  for (const name of FOREIGN) {
    mkdirSync(`${directory}/${name}`, { recursive: true });
    writeFileSync(`${directory}/${name}/model.safetensors`, 'precious');
  }
  writeFileSync(`${directory}/notes.txt`, 'precious');
}

const present = (directory: string): void => {
  for (const name of FOREIGN) assert.ok(existsSync(`${directory}/${name}/model.safetensors`), name);
  assert.ok(existsSync(`${directory}/notes.txt`));
};

async function train(resume: boolean): Promise<void> {
  writeFileSync(at('text.txt'), 'the whale and the sea '.repeat(200));
  await trainSmall(at('run'), at('text.txt'), { resume, recipe: { steps: 3, checkpointEvery: 1 } });
}

test('training removes only what it wrote itself', async () => {
  fill(at('run/checkpoints'));
  mkdirSync(at('run/checkpoints/step-00000002.99.tmp'));
  await train(true);
  present(at('run/checkpoints'));
  assert.not.ok(existsSync(at('run/checkpoints/step-00000002.99.tmp')));
  await train(false);
  present(at('run/checkpoints'));
});

test('nothing is removed behind a symbolic link', async () => {
  fill(at('elsewhere'));
  mkdirSync(at('elsewhere/step-00000002.99.tmp'));
  mkdirSync(at('run'));
  symlinkSync(at('elsewhere'), at('run/checkpoints'));
  await train(true);
  present(at('elsewhere'));
  assert.ok(existsSync(at('elsewhere/step-00000002.99.tmp')));
  await rejects(train(false), /symbolic link, nothing is removed behind it/);
  present(at('elsewhere'));
});

test('a link with the name of a leftover stays, and what it points to', () => {
  fill(at('elsewhere'));
  mkdirSync(at('run/checkpoints'), { recursive: true });
  symlinkSync(at('elsewhere'), at('run/checkpoints/step-00000002.99.tmp'));
  new Snapshots(at('run'), {}).clean();
  present(at('elsewhere'));
});

test('a directory of a step that the run did not write is not replaced', async () => {
  mkdirSync(at('run/checkpoints/step-00000002'), { recursive: true });
  writeFileSync(at('run/checkpoints/step-00000002/model.safetensors'), 'precious');
  await rejects(train(true), /step-00000002 was not written by this run/);
  assert.equal(readdirSync(at('run/checkpoints/step-00000002')), ['model.safetensors']);
});

test('a snapshot whose replacement was cut short gets its name back', async () => {
  await train(true);
  const snapshot = at('run/checkpoints/step-00000003');
  renameSync(snapshot, `${snapshot}.99.old`);
  new Snapshots(at('run'), {}).clean();
  assert.ok(existsSync(`${snapshot}/training.json`));
});

test('--no-resume refuses before it removes anything', () => {
  mkdirSync(at('run'));
  mkdirSync(at('elsewhere'));
  symlinkSync(at('elsewhere'), at('run/checkpoints'));
  refuses(() => {
    new Snapshots(at('run'), {}).clear();
  }, /symbolic link/);
});

test('a damaged newest snapshot is named, with the one before it', async () => {
  await train(true);
  const newest = at('run/checkpoints/step-00000003');
  const hint =
    /step-00000003\/.*; the snapshot before it is .*step-00000002: remove .*step-00000003 to resume/;
  const intact = readFileSync(`${newest}/training.json`, 'utf8');
  const fields = JSON.parse(intact) as Record<string, unknown>;
  const cursors: unknown[] = [null, 7, [null], [{}], [{ epoch: 'x', window: 0 }], [[]], { epoch: 0 }];
  const damaged = [
    ...['null', '7', '[]', '{', '', '{"step": null}', '{"step": 3, "tokens": "many"}'],
    ...[null, 7, 'x'].map((settings) => JSON.stringify({ ...fields, settings })),
    ...cursors.map((task) => JSON.stringify({ ...fields, task })),
  ];
  for (const text of damaged) {
    writeFileSync(`${newest}/training.json`, text);
    await rejects(train(true), hint);
  }
  writeFileSync(`${newest}/training.json`, intact);
  truncateSync(`${newest}/training.safetensors`, 100);
  await rejects(train(true), hint);
  rmSync(newest, { recursive: true });
  await train(true);
  assert.ok(existsSync(newest));
});

test.run();
