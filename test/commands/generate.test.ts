import { writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { runCli } from '../cli/run.js';
import { usePlainBackend } from '../plain-backend.js';

const test = suite('generate command');
const at = scratchDirectory(test);
test.after(usePlainBackend);

const common = ['--preset', 'pico', '--engine', 'cpu', '--threads', '1', '--quiet', '--tokens', '6'];
const file = (text: string): string => {
  const path = at('prompts.txt');
  writeFileSync(path, text);
  return path;
};

interface Answer {
  prompt: string;
  text: string;
  prompt_tokens: number;
  generated_tokens: number;
}

async function answers(...argv: string[]): Promise<Answer[]> {
  const { stdout, stderr, exitCode } = await runCli('generate', ...common, ...argv);
  assert.is(exitCode, 0, stderr);
  const lines = stdout.trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as Answer);
}

test('several prompts are answered one a line, each as if it were alone', async () => {
  const random = ['--temperature', '1', '--seed', '3'];
  const all = await answers('--prompts', file('one\n\ntwo words\r\nthree\n'), ...random);
  assert.equal(
    all.map(({ prompt, prompt_tokens: tokens }) => [prompt, tokens]),
    [
      ['one', 3],
      ['two words', 9],
      ['three', 5],
    ],
  );
  const path = file('one\n\ntwo words\r\nthree\n');
  for (const batch of ['1', '2']) {
    assert.equal(await answers('--prompts', path, '--batch', batch, ...random), all);
  }
  for (const answer of all) {
    const alone = await answers(answer.prompt, '--format', 'json', ...random);
    assert.equal(alone, [answer]);
    const { stdout } = await runCli('generate', ...common, answer.prompt, ...random);
    assert.is(stdout, `${answer.text}\n`);
  }
});

test('the line end of a file is not of the prompt, as on stdin', async () => {
  const alone = await answers('one', '--format', 'json');
  for (const text of ['one', 'one\n', 'one\r\n']) {
    assert.equal(await answers('--prompt-file', file(text), '--format', 'json'), alone);
  }
  const [longer] = await answers('--prompt-file', file('one\n\n'), '--format', 'json');
  assert.is(longer?.prompt, 'one\n');
});

test('generate and serve take the trained model where none is named', async () => {
  for (const argv of [
    ['generate', 'x'],
    ['serve', '--port', '0'],
  ]) {
    // Refused before weights are loaded: the untrained preset has 264 tokens.
    const { stderr, exitCode } = await runCli(...argv, '--tokenizer', 'bytes');
    assert.match(stderr, /tokenizer 'bytes' has 264 tokens but the model's vocabulary has 16384/);
    assert.is(exitCode, 2);
  }
});

test('prompts that cannot be meant are refused in one line', async () => {
  const cases: [string[], RegExp][] = [
    [['--prompts', file('one\n'), '--format', 'text'], /JSON lines: give --format json/],
    [['--prompts', file('one\n'), 'two'], /one prompt, or several with --prompts, not both/],
    [['one', '--batch', '2'], /--batch.*--prompts/],
    [['--prompts', file('one\n'), '--batch', '0'], /not a number of sequences/],
    [['--prompts', at('absent.txt')], /no such file: .*absent\.txt/],
  ];
  for (const [argv, line] of cases) {
    const { stderr, exitCode } = await runCli('generate', ...common, ...argv);
    assert.match(stderr, line);
    assert.is(stderr.trimEnd().split('\n').length, 1, stderr);
    assert.ok(exitCode > 0);
  }
  const empty = await runCli('generate', ...common, '--prompts', file('\n \n'));
  assert.match(empty.stderr, /prompts\.txt holds no prompt: write one a line/);
  assert.is(empty.exitCode, 2);
});

test.run();
