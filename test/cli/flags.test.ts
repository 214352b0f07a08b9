import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runCli } from './run.js';

const test = suite('flags refused by name');

test('what cannot be meant is refused in one line that names the flag', async () => {
  const cases: [string[], RegExp][] = [
    [['profile-memory', '--out', ''], /--out is empty/],
    [['train', '--out', ' '], /--out is empty/],
    [['profile-memory', '--seed', '9007199254740993'], /9007199254740991/],
    [['train', '--seed', '9007199254740993'], /9007199254740991/],
    [['profile-memory', '--preset', 'pico', '--checkpoint', 'x'], /--(preset|checkpoint)/],
    [['profile-memory', '--analytic', '--measure-up-to', '4k'], /--(analytic|measure-up-to)/],
    [['profile-memory', '--analytic', '--fill-cache'], /--(analytic|fill-cache)/],
  ];
  for (const [argv, line] of cases) {
    const { stderr, exitCode } = await runCli(...argv);
    assert.match(stderr, line, argv.join(' '));
    assert.not.match(stderr, /(--\S+): \1|cannot also/, 'each flag is named once');
    assert.is(stderr.trimEnd().split('\n').length, 1, stderr);
    assert.is(exitCode, 2, stderr);
  }
});

test('a command that is nearly spelled right is suggested; help before a command is its help', async () => {
  assert.match(
    (await runCli('trian')).stderr,
    /no command 'trian' \(did you mean 'train'\?\); the commands are/,
  );
  assert.not.match((await runCli('xyzzy')).stderr, /did you mean/);
  assert.match((await runCli('help', 'trian')).stderr, /did you mean 'train'/);
  const { stdout, exitCode } = await runCli('help', 'train-tokenizer');
  assert.is(exitCode, 0);
  assert.is(stdout, (await runCli('train-tokenizer', '--help')).stdout);
  assert.match(stdout, /byte-level BPE/);
});

test.run();
