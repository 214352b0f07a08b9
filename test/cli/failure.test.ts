import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { describeFailure } from '../../src/cli/failure.js';
import { RunError, UsageError } from '../../src/errors.js';
import { runCli } from './run.js';

const test = suite('failures');

test('every kind of failure is one line with its exit status', () => {
  const cases: [unknown, string, number][] = [
    [new UsageError('odd\ncontext'), 'yoco: odd context', 2],
    [new RunError('disk full'), 'yoco: disk full', 1],
    [Object.assign(new Error('x'), { code: 'ENOSPC', path: 'a/b' }), 'yoco: a/b: no space left', 1],
    [
      new Error('command trian not found'),
      "yoco: no command 'trian' (did you mean 'train'?); the commands are needle, train",
      2,
    ],
  ];
  for (const [error, message, exitCode] of cases) {
    const failure = describeFailure(error, ['needle', 'train']);
    assert.ok(failure.message.startsWith(message), failure.message);
    assert.not.match(failure.message, '\n');
    assert.is(failure.exitCode, exitCode);
  }
});

test('an error of ours that nobody foresaw keeps its stack', () => {
  const { message, exitCode } = describeFailure(new TypeError('x is undefined'), []);
  assert.match(message, /unexpected error\nTypeError: x is undefined\n\s+at /);
  assert.is(exitCode, 1);
});

test('unknown commands, flags and missing arguments are wrong usage, in one line', async () => {
  const cases: [string[], RegExp][] = [
    [['trian'], /^yoco: no command 'trian' \(did you mean 'train'\?\); the commands are .*reproduce.*\n$/],
    [['reproduce', 'laptop', '--frobnicate'], /^yoco: no flag --frobnicate; --help lists the flags\n$/],
    [
      ['train', '--step', '3'],
      /^yoco: no flag --step \(did you mean '--steps'\?\); --help lists the flags\n$/,
    ],
    [['reproduce'], /^yoco: EXPERIMENT is missing: name of a file in experiments\/, or a path\n$/],
    [['data'], /^yoco: ACTION is missing: what to do \(list\|fetch\)\n$/],
    [['convert'], /^yoco: SOURCE is missing: checkpoint .*; DESTINATION is missing: directory to write\n$/],
    [['convert', 'a', 'b'], /^yoco: --to is missing: layout to write \(yoco\|.*\|gguf\)\n$/],
    [['launch', '--', 'train'], /^yoco: --ranks is missing: processes to start\n$/],
    [['generate', 'x', '--batch', '2'], /^yoco: --batch needs --prompts\n$/],
    [['report', 'x', '--port', '1', '--host', 'y'], /^yoco: --host needs --serve --port needs --serve\n$/],
  ];
  for (const [argv, line] of cases) {
    const { stderr, stdout, exitCode } = await runCli(...argv);
    assert.match(stderr, line);
    assert.is(stdout, '');
    assert.is(exitCode, 2);
  }
});

test.run();
