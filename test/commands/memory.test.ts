/** Work that does not fit the memory is refused before any of it is done. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runCli } from '../cli/run.js';
import { writeInputs } from '../process/commands.js';

const test = suite('commands/memory');
const directory = mkdtempSync(join(tmpdir(), 'yoco-memory-'));
const at = (name: string): string => join(directory, name);
test.before(() => {
  writeInputs(directory);
});
test.after(() => {
  rmSync(directory, { recursive: true });
});

/** The words of commands, beside the model. */
const LARGE: Readonly<Record<string, readonly string[]>> = {
  generate: ['x', '-n', '2'],
  eval: ['--data', at('tasks')],
  'eval-mmlu': ['--limit', '1'],
  needle: ['--ctx', '512', '--haystack', at('text.txt')],
  perplexity: [at('text.txt')],
  'profile-prefill': ['--ctx', '64', '--format', 'csv'],
  'profile-throughput': ['--ctx', '64', '--format', 'csv'],
  train: ['--steps', '1', '--data', at('text.txt')],
};

for (const [command, words] of Object.entries(LARGE))
  test(command, async () => {
    const out = command === 'generate' ? [] : ['--out', at(command)];
    const { exitCode, stdout, stderr } = await runCli(
      ...[command, ...words, '--preset', '65b', '--engine', 'cpu', ...out],
    );
    assert.is(exitCode, 1);
    assert.match(stdout + stderr, /needs? \d+ bytes \([\d.]+ [GT]iB\), available are \d+ bytes/);
  });

test.run();
