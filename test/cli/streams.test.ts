/** What a process says and how it ends when its reader goes, its disk is full, or a file of it is odd. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadExperiment } from '../../src/cli/experiment.js';
import { describeFailure } from '../../src/cli/failure.js';
import { markLines } from '../../src/cli/streams.js';
import { RunError, UsageError } from '../../src/errors.js';
import { packageRoot } from '../../src/package-root.js';
import { escapeControls, printable } from '../../src/printable.js';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { skipBecause } from '../skip.js';
import { YOCO } from './program.js';
import { runCli } from './run.js';

const test = suite('streams and exit statuses');
const at = scratchDirectory(test);
const memory = ['profile-memory', '--analytic', '--ctx', '1k', '--format', 'csv'];

interface Ended {
  status: number | null;
  stderr: string;
}

/** Runs a command whose stdout nobody reads: the pipe's other end is closed before it writes. */
function unread(argv: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...YOCO, ...argv], { cwd: packageRoot });
    child.stdout.destroy();
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.on('close', (status) => {
      resolve({ status, stderr });
    });
  });
}

test('a text that nobody reads any more is not continued', async () => {
  const argv = ['generate', 'x', '--preset', 'pico', '--engine', 'cpu', '--threads', '1', '--tokens', '3000'];
  const child = spawn(process.execPath, [...YOCO, ...argv], { cwd: packageRoot });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdout.once('data', () => child.stdout.destroy());
  const [status] = (await once(child, 'close')) as [number];
  assert.is(status, 0, stderr);
  // The rates come at the end of the text.
  assert.not.match(stderr, 'tokens/s');
});

test('every line of a rank is marked, in whatever pieces it is written', () => {
  for (const pieces of [['a\nb\n'], ['a', '\n', 'b', '\n'], ['', 'a\n', '', 'b\n'], ['a\nb', '\n']]) {
    let written = '';
    const stream = { write: (text: string) => (written += text) } as unknown as NodeJS.WriteStream;
    markLines(stream, '> ');
    for (const piece of pieces) stream.write(piece);
    assert.is(written, '> a\n> b\n');
  }
});

test('a regression is no success because nobody reads the table', async () => {
  const baseline = [...memory, '--out', at('baseline')];
  assert.is((await runCli(...baseline)).exitCode, 0);
  const file = at('baseline/profile-memory.csv');
  const good = await unread([...memory, '--out', at('same'), '--check', file]);
  assert.is(good.status, 0, good.stderr);
  const text = 'model,architecture,self_decoder,context,total_bytes\ntiny,yoco,gated-retention,1024,1\n';
  writeFileSync(at('small.csv'), text);
  const regressed = await unread([...memory, '--out', at('y'), '--check', at('small.csv')]);
  assert.is(regressed.status, 1, regressed.stderr);
  assert.match(regressed.stderr, 'regression:');
});

if (process.platform === 'linux')
  test('a table that cannot be written to stdout is a failure of one line', () => {
    const full = openSync('/dev/full', 'w');
    const { status, stderr } = spawnSync(
      process.execPath,
      [...YOCO, ...memory, '--quiet', '--out', at('full')],
      {
        ...{ cwd: packageRoot, encoding: 'utf8' },
        stdio: ['ignore', full, 'pipe'],
      },
    );
    closeSync(full);
    assert.is(status, 1);
    assert.match(stderr, /^yoco: (cannot write to stdout: )?no space left on the device[^\n]*\n$/);
  });
else skipBecause('there is no /dev/full', test, 'full stdout');

test('failures of the system and of memory are one line without a stack', () => {
  const system = (code: string): Error =>
    Object.assign(new Error(`${code}: something, write`), { code, errno: -5, syscall: 'write' });
  for (const code of ['EIO', 'ELOOP', 'EFBIG', 'ENAMETOOLONG', 'EBADMSG', 'ENOTSUP']) {
    const { message, exitCode } = describeFailure(system(code), []);
    assert.match(message, /^yoco: [^\n]+$/);
    assert.not.match(message, 'unexpected');
    assert.is(exitCode, 1);
  }
  for (const work of [
    () => new Float32Array(2 ** 52),
    () => Buffer.alloc(2 ** 60),
    () => 'x'.repeat(2 ** 29 + 1),
    () => new ArrayBuffer(2 ** 52),
  ]) {
    let thrown: unknown;
    try {
      work();
    } catch (error) {
      thrown = error;
    }
    assert.match(describeFailure(thrown, []).message, /^yoco: not enough memory/);
  }
});

test('names and messages from outside are cut and cannot drive the terminal', () => {
  for (const error of [
    new RunError(`${'x'.repeat(1e7)}\u001b[2J`),
    new UsageError(`a\u0007${'y'.repeat(1e6)}`),
  ]) {
    const { message } = describeFailure(error, []);
    assert.ok(message.length < 2100, String(message.length));
    assert.not.match(message, /[\u0000-\u001f\u007f]/);
  }
  assert.is(printable('a\u001b[31m b\n\u202ec'), 'a\\u001b[31m b \\u202ec');
  assert.is(escapeControls('a  b\t'), 'a  b\\u0009');
  assert.is(printable('x'.repeat(30), 10), 'xxxxx […] xxxxx');
  const { message } = describeFailure(new Error(`command ${'\u001b[2J'.repeat(1000)} not found`), ['train']);
  assert.match(message, /^yoco: no command '\\u001b.*the commands are train$/);
});

test('odd files named on the command line are one line', async () => {
  symlinkSync(at('loop'), at('loop'));
  writeFileSync(at('huge.json'), '');
  truncateSync(at('huge.json'), 600 * 2 ** 20);
  mkdirSync(at('folder.json'));
  for (const config of [at('loop'), at('huge.json'), at('folder.json'), at('n'.repeat(300))]) {
    const argv = ['profile-memory', '--analytic', '--config', config, '--out', at('odd')];
    const { exitCode, stderr } = await runCli(...argv);
    assert.match(stderr, /^yoco: [^\n]+\n$/);
    assert.ok(exitCode === 1 || exitCode === 2, String(exitCode));
  }
});

test('an experiment that runs experiments is refused', () => {
  const experiment = { description: 'x', out: 'y', steps: [{ title: 'again', run: ' reproduce self.json' }] };
  writeFileSync(at('self.json'), JSON.stringify(experiment));
  assert.throws(() => loadExperiment(at('self.json')), /self\.json: .*an experiment runs no experiment/);
});

test.run();
