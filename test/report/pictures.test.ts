import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { drawPictures, pictureStem } from '../../src/report/pictures.js';
import { runCli } from '../cli/run.js';

const test = suite('pictures');
let root = '';
let directory = '';
test.before.each(() => {
  root = mkdtempSync(join(tmpdir(), 'yoco-pictures-'));
  directory = join(root, 'a', 'b', 'c');
  mkdirSync(directory, { recursive: true });
});
test.after.each(() => {
  rmSync(root, { recursive: true, force: true });
});

const SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>';
const options = { list: 'figures.json' };
const draw = (...stems: string[]): Promise<string[]> =>
  drawPictures(directory, new Map(stems.map((stem) => [stem, SVG])), options);

test('pictures of an earlier drawing make place; changed ones and those of others stay', async () => {
  await draw('one', 'two', 'three');
  writeFileSync(join(directory, 'two.svg'), 'edited by hand');
  writeFileSync(join(directory, 'mine.svg'), SVG);
  await draw('three', 'four');
  assert.equal(readdirSync(directory).sort(), [
    'figures.json',
    'four.svg',
    'mine.svg',
    'three.svg',
    'two.svg',
  ]);
  assert.is(readFileSync(join(directory, 'two.svg'), 'utf8'), 'edited by hand');
});

test('a list of another shape, or one that names files elsewhere, removes nothing', async () => {
  await draw('one');
  const [, hash = ''] =
    /"one\.svg": "(\w+)"/.exec(readFileSync(join(directory, 'figures.json'), 'utf8')) ?? [];
  const victim = join(root, 'victim.svg');
  writeFileSync(victim, `${SVG}\n`);
  writeFileSync(join(directory, 'table.csv'), `${SVG}\n`);
  for (const list of [
    'null',
    '{',
    '[]',
    '{"one.svg":1}',
    JSON.stringify({ '../../../victim.svg': hash, [victim]: hash, 'table.csv': hash }),
  ]) {
    writeFileSync(join(directory, 'figures.json'), list);
    await draw('two');
    assert.ok(existsSync(victim), list);
    assert.ok(existsSync(join(directory, 'table.csv')), list);
  }
});

test('a stem has no separators, is short enough, and is given once', () => {
  assert.is(pictureStem('memory-x/../../ESCAPED'), 'memory-x-..-..-ESCAPED');
  assert.is(pictureStem('///'), 'picture');
  assert.is(pictureStem('a b', new Set(['a-b', 'a-b-2'])), 'a-b-3');
  const long = pictureStem('x'.repeat(5000));
  assert.ok(long.length <= 160);
  assert.is.not(long, pictureStem('x'.repeat(5001)));
});

test('names in tables never lead out of the results directory', async () => {
  const evil = ['x/../../../../ESCAPED', '../../ESCAPED', '/ESCAPED', 'x\\..\\ESCAPED', '..'];
  const rows = evil.flatMap((model) =>
    ['yoco,gated-retention', 'transformer,'].map((rest) => `${model},${rest},1024,100,1000,ok,`),
  );
  writeFileSync(
    join(directory, 'profile-memory.csv'),
    `model,architecture,self_decoder,context,kv_cache_bytes,total_bytes,status,error\n${rows.join('\n')}\n`,
  );
  writeFileSync(
    join(directory, 'needle.csv'),
    `model,architecture,self_decoder,haystack,variant,needles,context,depth,trials,accuracy,status,error\n${evil
      .map((name) => `${name},yoco,${name},${name},${name},1,1024,50,1,1,ok,`)
      .join('\n')}\n`,
  );
  const before = readdirSync(root, { recursive: true, encoding: 'utf8' });
  const { exitCode, stderr } = await runCli('report', directory);
  assert.is(exitCode, 0, stderr);
  const inside = join('a', 'b', 'c');
  const written = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter(
    (path) => !before.includes(path),
  );
  assert.ok(written.length > 10);
  assert.equal(
    written.filter((path) => !path.startsWith(inside)),
    [],
  );
});

test.run();
