import { execFileSync } from 'node:child_process';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runCli } from './run.js';

const test = suite('shell completion');

const scriptFor = async (shell: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await runCli('completion', shell);
  assert.is(exitCode, 0, stderr);
  return stdout;
};

test('bash completes commands, flags and values', async () => {
  const script = await scriptFor('bash');
  const cases: [words: string[], expected: string][] = [
    [['ne'], 'needle'],
    [['help', 'train-'], 'train-tokenizer'],
    [['needle', '--haystack', 'x', '--ct'], '--ctx'],
    [['train', '--no-'], '--no-resume'],
    [['generate', '--engine', 'w'], 'webgpu'],
    [['data', 'fe'], 'fetch'],
    [['data', 'fetch', 'hel'], 'hellaswag'],
    [['convert', 'dir'], ''],
  ];
  const asked = cases.map(([words]) => {
    const all = ['yoco', ...words].map((word) => `'${word}'`).join(' ');
    return `COMP_WORDS=(${all}); COMP_CWORD=${words.length}; _yoco; echo "\${COMPREPLY[*]}"`;
  });
  const output = execFileSync('bash', ['-c', [script, ...asked].join('\n')], { encoding: 'utf8' });
  assert.equal(
    output.trimEnd().split('\n').concat('').slice(0, cases.length),
    cases.map(([, expected]) => expected),
  );
});

test('zsh and fish get scripts of their own; another shell is refused by name', async () => {
  assert.match(await scriptFor('zsh'), /bashcompinit\n_yoco\(\) \{/);
  const lines = (await scriptFor('fish')).trimEnd().split('\n');
  assert.ok(lines.every((line) => /^complete -c yoco /.test(line) && line.split("'").length % 2 === 1));
  const { stderr, exitCode } = await runCli('completion', 'tcsh');
  assert.match(stderr, /tcsh .*bash, zsh, fish/);
  assert.is(exitCode, 2);
});

test.run();
