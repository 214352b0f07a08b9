/** Where a command cannot write, it says so before it has read, fetched or started anything. */
import { appendFileSync, chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UsageError } from '../../src/errors.js';
import { requireWritable } from '../../src/files/write.js';
import { loadConfig } from '../../src/cli/main.js';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { COMMANDS } from '../process/commands.js';
import { skipBecause } from '../skip.js';
import { runCli } from './run.js';

const test = suite('cli/destinations');
const at = scratchDirectory(test);

/** Commands whose destination is an argument, and others that `COMMANDS` has none for. */
const OTHERS: Readonly<Record<string, (out: string) => string[]>> = {
  convert: (out) => ['convert', 'no-source', out, '--to', 'yoco'],
  data: (out) => ['data', 'fetch', 'boolq', '--out', out],
  report: (out) => ['report', out],
  'train-tokenizer': (out) => ['train-tokenizer', out, '--data', 'no-data'],
};

const EXPERIMENT = {
  description: 'two steps',
  out: 'runs/two',
  steps: ['a', 'b'].map((step) => ({
    title: step,
    run: `profile-memory --analytic --preset pico --ctx 1k --out {out}/${step}`,
  })),
};

/** A command with a file in the way of its destination, and inputs that do not exist: what it reads first would fail too. */
async function refused(words: readonly string[], message: RegExp): Promise<void> {
  const { stdout, stderr, exitCode } = await runCli(...words);
  assert.match(stderr, message, words.join(' '));
  assert.is(stderr.split('\n').length, 2, stderr);
  assert.equal([stdout, exitCode], ['', 2], words.join(' '));
}

test('every command that writes refuses a destination below a file, before its work', async () => {
  const { commands } = await loadConfig({ development: true });
  const writing = commands.filter(({ id, flags }) => 'out' in flags || id in OTHERS).map(({ id }) => id);
  assert.ok(writing.length > 12);
  appendFileSync(at('file'), '');
  for (const id of writing) {
    // An experiment is read first, as it says where it writes.
    const input = id === 'reproduce' ? at('.') : at('nowhere');
    if (id === 'reproduce') appendFileSync(at('experiment.json'), JSON.stringify(EXPERIMENT));
    const words = OTHERS[id]?.(at('file/out')) ?? COMMANDS[id]?.(input, at('file/out'));
    assert.ok(words, `${id} has no words in test/process/commands.ts`);
    await refused(
      words,
      /^yoco: cannot write into \S+file: it is a file, a directory is needed; choose another place$/m,
    );
  }
});

test('an experiment is refused before its first step where the place of a later one is taken', async () => {
  appendFileSync(at('experiment.json'), JSON.stringify(EXPERIMENT));
  mkdirSync(at('out'));
  appendFileSync(at('out/b'), '');
  await refused(
    ['reproduce', at('experiment.json'), '--out', at('out')],
    /cannot write into \S+out\/b: it is a file/,
  );
  assert.not(existsSync(at('out/a')));
});

test('files that a command writes: the report of a check, and a tokenizer', async () => {
  mkdirSync(at('tokenizer.json/tokenizer.json'), { recursive: true });
  const profile = [
    'profile-memory',
    '--analytic',
    '--preset',
    'pico',
    '--out',
    at('out'),
    '--check',
    'none.csv',
  ];
  await refused(
    [...profile, '--check-report', at('tokenizer.json')],
    /cannot write \S+: it is a directory, a file/,
  );
  await refused(
    ['train-tokenizer', at('tokenizer.json'), '--data', 'none'],
    /cannot write \S+tokenizer.json\/tokenizer.json: it is a directory, a file is needed/,
  );
});

test('nothing is left, and nothing made, where a destination can be written', () => {
  requireWritable({ directory: at('a/b/c') });
  requireWritable({ file: at('a/b.json') });
  requireWritable({ directory: at() });
  assert.equal(readdirSync(at()), []);
});

const refuses = (directory: string, reason: RegExp): void => {
  assert.throws(
    () => { requireWritable({ directory }); },
    (error: Error) => error instanceof UsageError && reason.test(error.message),
    directory,
  ); // prettier-ignore
};

test('a link to nothing, a name too long, a null byte', () => {
  symlinkSync(at('nothing'), at('link'));
  refuses(at('link'), /it is a link to nothing/);
  refuses(at('x'.repeat(300)), /the name is too long/);
  refuses(at('a\0b'), /no name of a file/);
});

if (process.platform === 'linux')
  test('a file system in which nothing can be made', () => {
    refuses('/proc/out/below', /cannot write \/proc\/out\/below: no such file or directory/);
  });
else skipBecause('there is no /proc', test, 'read-only file system');

if (process.getuid?.() === 0) skipBecause('root may write anywhere', test, 'read-only directory');
else
  test('a directory without permission to write, and one below it', () => {
    mkdirSync(at('locked'), { mode: 0o555 });
    for (const name of ['locked', 'locked/below']) refuses(at(name), /permission denied/);
    chmodSync(at('locked'), 0o755);
  });

test.run();
