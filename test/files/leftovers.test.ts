import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openTemporary, temporaryDirectory } from '../../src/files/temporary.js';
import { writeFileAtomic } from '../../src/files/write.js';
import { writeTokenizer } from '../../src/data/tokenizers/write-tokenizer.js';
import { scratchDirectory } from '../checkpoint/scratch.js';

const test = suite('files/leftovers');
const at = scratchDirectory(test);

const deadPid = (): number => spawnSync(process.execPath, ['--version']).pid;

test('what dead processes left of a file goes when it is written again', () => {
  const pid = deadPid();
  const others = [
    `.table.csv.${process.ppid}.tmp`,
    '.table.csv.tmp',
    `.other.csv.${pid}.tmp`,
    `.table.csv.${pid}.txt`,
  ];
  for (const name of [...others, `.table.csv.${pid}.tmp`]) writeFileSync(at(name), 'half');
  writeFileAtomic(at('table.csv'), 'whole');
  assert.equal(readdirSync(at()).sort(), [...others, 'table.csv'].sort());
});

test('so it is with a tokenizer', () => {
  const pid = deadPid();
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    writeFileSync(at(`.${name}.${pid}.tmp`), 'half');
  writeTokenizer(at(), {});
  assert.equal(readdirSync(at()).sort(), ['tokenizer.json', 'tokenizer_config.json']);
});

test('a temporary file has no name, holds what is written, and removes those of dead processes', () => {
  const before = process.env.TMPDIR;
  process.env.TMPDIR = at();
  try {
    const [dead, living] = [`yoco-tokens-${deadPid()}-AbCdEf`, `yoco-tokens-${process.ppid}-AbCdEf`];
    const others = [living, 'yoco-tokens-mine', 'yoco-tokens-123'];
    for (const name of [dead, ...others]) mkdirSync(at(name));
    writeFileSync(at(`${dead}/data.bin`), 'gigabytes');
    const file = openTemporary('yoco-tokens');
    writeSync(file.descriptor, 'tokens', 0);
    const bytes = Buffer.alloc(6);
    readSync(file.descriptor, bytes, 0, 6, 0);
    assert.is(bytes.toString(), 'tokens');
    if (process.platform !== 'win32') assert.equal(readdirSync(at()).sort(), others.sort());
    file.close();
    assert.not(existsSync(at(dead)));
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  }
});

test('unpacked corpora of dead processes go when another is unpacked', () => {
  const before = process.env.TMPDIR;
  process.env.TMPDIR = at();
  try {
    mkdirSync(at('yoco-corpus-123456-AbCdEf.kept'));
    const dead = `yoco-corpus-${deadPid()}-AbCdEf`;
    mkdirSync(at(dead));
    writeFileSync(at(`${dead}/0`), 'gigabytes');
    assert.ok(existsSync(temporaryDirectory('yoco-corpus')));
    assert.not(existsSync(at(dead)));
    assert.ok(existsSync(at('yoco-corpus-123456-AbCdEf.kept')));
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  }
});

test.run();
