import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';
import { CHECKPOINT_FILES } from '../../src/checkpoint/checkpoint-files.js';
import { recoverDirectory } from '../../src/files/staging.js';
import { program } from '../cli/program.js';
import { contents, makeCheckpoint, SMALL } from './checkpoints.js';
import { rejects, scratchDirectory } from './scratch.js';

const test = suite('checkpoint/overwrite');
const at = scratchDirectory(test);

const source = (name = 'source'): Promise<string> => makeCheckpoint(at(name), SMALL.retention ?? {});
const old = (name = 'taken'): Promise<string> => makeCheckpoint(at(name), SMALL.transformer ?? {});
const overwrite = (from: string, to: string): Promise<unknown> =>
  convertCheckpoint(from, to, { to: 'yoco', overwrite: true });

/** All files below a directory with their bytes. */
function tree(directory: string): Record<string, string> {
  const names = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return Object.fromEntries(
    names.map(({ parentPath, name }) => {
      const path = join(parentPath, name);
      return [path.slice(directory.length + 1), readFileSync(path).toString('hex')];
    }),
  );
}

test('a source in the destination is refused, whatever links lead there', async () => {
  await source('all/source');
  await source('apart');
  symlinkSync(at('all'), at('link'));
  symlinkSync(at('all/source'), at('source-link'));
  const before = tree(at('all'));
  for (const [from, to] of [
    ['all/source', 'all'],
    ['all/source', 'link'],
    ['source-link', 'all'],
    ['source-link', 'all/source'],
    ['link/source', 'all/source'],
  ] as const) {
    await rejects(overwrite(at(from), at(to)), /give another directory/);
  }
  // A directory of links, as download caches have it, whose files lie in the destination.
  mkdirSync(at('links'));
  for (const name of ['config.json', 'model.safetensors'])
    symlinkSync(at(`all/source/${name}`), at(`links/${name}`));
  await rejects(overwrite(at('links'), at('all/source')), /is in the destination/);
  assert.equal(tree(at('all')), before);
});

test('only files of a checkpoint are replaced', async () => {
  await source();
  await old();
  mkdirSync(at('taken/best'));
  for (const name of ['notes.txt', 'best/model.safetensors', 'pytorch_model.bin', 'README.md', '.123']) {
    writeFileSync(at(`taken/${name}`), 'mine');
  }
  writeFileSync(at('taken/tokenizer.json'), '{}');
  await overwrite(at('source'), at('taken'));
  assert.equal(contents(at('taken')), contents(at('source')));
  assert.equal(readdirSync(at('taken')).sort(), [
    ...['.123', 'README.md', 'best', 'config.json', 'model.safetensors', 'notes.txt', 'pytorch_model.bin'],
  ]);
  assert.is(readFileSync(at('taken/best/model.safetensors'), 'utf8'), 'mine');
});

test('what is no checkpoint is not overwritten', async () => {
  await source();
  mkdirSync(at('taken/checkpoints/step-00000001'), { recursive: true });
  await rejects(overwrite(at('source'), at('taken')), /is a training run, which is not overwritten/);
  mkdirSync(at('site'));
  writeFileSync(at('site/config.json'), '{"mine": true}');
  await rejects(overwrite(at('source'), at('site')), /site\/config\.json belongs to no checkpoint/);
  assert.is(readFileSync(at('site/config.json'), 'utf8'), '{"mine": true}');
  symlinkSync(at('nowhere'), at('dangling'));
  await rejects(overwrite(at('source'), at('dangling')), /is a link to nothing/);
});

test('an empty directory stays itself: it may be a mount point', async () => {
  await source();
  mkdirSync(at('empty'));
  symlinkSync(at('empty'), at('link'));
  await convertCheckpoint(at('source'), at('link'), { to: 'yoco' });
  assert.equal(contents(at('empty')), contents(at('source')));
});

test('a failure puts the old checkpoint back', async () => {
  await makeCheckpoint(at('source'), SMALL.uneven ?? {});
  await old();
  const before = tree(at('taken'));
  await rejects(
    convertCheckpoint(at('source'), at('taken'), { to: 'official', overwrite: true }),
    /cannot express/,
  );
  assert.equal(tree(at('taken')), before);
});

test('killed at any change of the directory, it leaves the old checkpoint or the new one', async () => {
  await source();
  await old('old');
  const [before, after] = [contents(at('old')), contents(at('source'))];
  writeFileSync(at('old/notes.txt'), 'mine');
  const words = await program(fileURLToPath(new URL('overwrite-child.ts', import.meta.url)));
  const states = new Set<string>();
  // A sample; `npm run robustness -- kill` takes every one.
  for (const crashAt of [9, 13, 15, 17, 19, 21, 23]) {
    rmSync(at('taken'), { recursive: true, force: true });
    cpSync(at('old'), at('taken'), { recursive: true });
    const { signal } = spawnSync(process.execPath, [...words, at('source'), at('taken'), String(crashAt)]);
    recoverDirectory(at('taken'), CHECKPOINT_FILES);
    const now = contents(at('taken'));
    const state = [before, after].findIndex((value) => JSON.stringify(value) === JSON.stringify(now));
    assert.not.equal(state, -1, `neither old nor new after change ${crashAt}`);
    states.add(signal === null ? 'done' : (['old', 'new'][state] ?? ''));
    assert.is(readFileSync(at('taken/notes.txt'), 'utf8'), 'mine');
    await overwrite(at('source'), at('taken'));
    assert.equal(contents(at('taken')), after);
    assert.equal(readdirSync(at('taken')).sort(), ['config.json', 'model.safetensors', 'notes.txt']);
    assert.equal(readdirSync(at()).sort(), ['old', 'source', 'taken']);
  }
  assert.ok(states.has('old'), 'no kill came before the exchange');
});

test('killed while the destination did not exist, it runs again without --overwrite', async () => {
  await source();
  mkdirSync(at('new.99.tmp'));
  writeFileSync(at('new.99.tmp/.model.safetensors.99.tmp'), 'half');
  await convertCheckpoint(at('source'), at('new'), { to: 'yoco' });
  assert.equal(readdirSync(at()).sort(), ['new', 'source']);
});

test('a destination moved away by a process that died gets its name back', async () => {
  await source();
  await old();
  const before = contents(at('taken'));
  renameSync(at('taken'), at('taken.99.old'));
  mkdirSync(at('taken.99.tmp'));
  await rejects(convertCheckpoint(at('taken'), at('x'), { to: 'yoco' }), /has left it as .*taken\.99\.old/);
  await rejects(convertCheckpoint(at('source'), at('taken'), { to: 'yoco' }), /is not empty/);
  assert.equal(contents(at('taken')), before);
  assert.equal(readdirSync(at()).sort(), ['source', 'taken']);
});

test("directories that only look like leftovers are somebody's", async () => {
  await source();
  await old('taken.2023.old');
  mkdirSync(at('taken.7.tmp'));
  writeFileSync(at('taken.7.tmp/letter.txt'), 'mine');
  await convertCheckpoint(at('source'), at('taken'), { to: 'yoco' });
  assert.ok(existsSync(at('taken.2023.old/model.safetensors')));
  assert.ok(existsSync(at('taken.7.tmp/letter.txt')));
});

test.run();
