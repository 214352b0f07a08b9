import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ResultWriter } from '../../src/results/writer.js';
import { refuses, scratchDirectory } from '../checkpoint/scratch.js';
import { runCli } from '../cli/run.js';

const test = suite('results/locked');
const at = scratchDirectory(test);

const PREFILL = ['profile-memory', '--analytic', '--preset', 'pico', '--ctx', '1k', '--format', 'csv'];
const provenance = {
  ...{ command: [], versions: {}, git: null, engine: null, flags: {}, configuration: null, inputs: {} },
  machine: { cpu: '', instructions: [], cores: 1, memoryBytes: 1, system: '' },
};
const schema = { name: 'table', columns: [{ name: 'key', kind: 'key', description: 'of a row' }] } as const;
const open = (): ResultWriter => ResultWriter.open(at(), schema, { provenance, settings: null });

const leave = (name: string, pid: number): void => {
  writeFileSync(at(name), JSON.stringify({ pid, host: hostname(), began: null }));
};

test('a table that another process writes is not touched', () => {
  const writer = open();
  writer.append({ key: 1 });
  writer.close();
  const before = readFileSync(at('table.csv'), 'utf8');
  leave('table.lock', process.ppid);
  refuses(
    open,
    new RegExp(`process ${process.ppid} is writing results there: wait for it, or choose another directory`),
  );
  assert.is(readFileSync(at('table.csv'), 'utf8'), before);
});

test('the lock goes away with the writer, and a dead one does not hold', () => {
  const { pid } = spawnSync(process.execPath, ['--version']);
  leave('table.lock', pid);
  open().close();
  assert.equal(
    readdirSync(at()).filter((name) => name.includes('lock')),
    [],
  );
});

test('one process may open a table again', () => {
  const [first, second] = [open(), open()];
  second.close();
  assert.ok(existsSync(at('table.lock')));
  first.close();
});

test('a command refuses a directory where another is at work, and leaves none of its locks', async () => {
  mkdirSync(at('out'));
  assert.is((await runCli(...PREFILL, '--out', at('out'))).exitCode, 0);
  assert.equal(
    readdirSync(at('out')).filter((name) => name.endsWith('.lock')),
    [],
  );
  leave('out/profile-memory.lock', process.ppid);
  const { exitCode, stderr } = await runCli(...PREFILL, '--out', at('out'));
  assert.is(exitCode, 1);
  assert.match(stderr, /yoco: .*process \d+ is writing results there/);
});

test('derived tables and reports are written by one process at a time', async () => {
  const profile = [...PREFILL, '--arch', 'yoco,transformer', '--out', at('out')];
  mkdirSync(at('out'));
  leave('out/profile-memory-ratio.lock', process.ppid);
  assert.match((await runCli(...profile)).stderr, /yoco: .*process \d+ is writing results there/);
  rmSync(at('out/profile-memory-ratio.lock'));
  assert.is((await runCli(...profile)).exitCode, 0);
  leave('out/report.lock', process.ppid);
  const { exitCode, stderr } = await runCli('report', at('out'));
  assert.is(exitCode, 1);
  assert.match(stderr, /yoco: .*process \d+ is making the report there/);
  assert.not(existsSync(at('out/report.html')));
});

test.run();
