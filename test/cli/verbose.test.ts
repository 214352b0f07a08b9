import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { usePlainBackend } from '../plain-backend.js';
import { runCli } from './run.js';

const test = suite('what commands say of their work');
let directory = '';
test.before(() => {
  directory = mkdtempSync(join(tmpdir(), 'yoco-verbose-'));
  writeFileSync(join(directory, 'text.txt'), 'One sentence. Another one. '.repeat(40));
});
test.after(async () => {
  rmSync(directory, { recursive: true });
  await usePlainBackend();
});

const at = (name: string): string => join(directory, name);

const stderrOf = async (...argv: string[]): Promise<string> => {
  const { stderr, exitCode } = await runCli(...argv);
  assert.is(exitCode, 0, stderr);
  return stderr;
};

test('with --verbose every command that uses tokens says which files name them; a sweep says what it keeps', async () => {
  const size = ['--preset', 'pico', '--threads', '1', '--engine', 'cpu'];
  const train = [
    'train',
    ...size,
    '--steps',
    '1',
    '--batch',
    '1',
    '--length',
    '16',
    '--data',
    at('text.txt'),
  ];
  const commands = [
    [...train, '--out', at('run')],
    ['convert', at('run'), at('copy'), '--to', 'official'],
    ['perplexity', at('text.txt'), ...size, '--ctx', '64', '--out', at('perplexity')],
    ['needle', ...size, '--haystack', at('text.txt'), '--ctx', '512', '--out', at('needle')],
    ['eval-mmlu', ...size, '--limit', '1', '--shots', '0', '--out', at('mmlu')],
    ['generate', 'One', ...size, '-n', '1'],
  ];
  for (const argv of commands) {
    const line = /tokenizer: bytes\n[^]*stop: 256 \(the tokenizer bytes\)/;
    assert.match(await stderrOf(...argv, '--verbose'), line, argv[0]);
  }
});

test('a sweep says before it begins what an interruption leaves', async () => {
  const argv = ['perplexity', at('text.txt'), '--preset', 'pico', '--engine', 'cpu', '--ctx', '64'];
  const kept = (again: string): RegExp =>
    new RegExp(`finished cells are saved in .*kept: if interrupted, run the command ${again} to resume`);
  assert.match(await stderrOf(...argv, '--out', at('kept')), kept('again'));
  assert.not.match(await stderrOf(...argv, '--out', at('kept')), /finished cells are saved/, 'nothing to do');
  assert.match(await stderrOf(...argv, '--out', at('kept'), '--no-resume'), kept('without --no-resume'));
});

test.run();
