import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { helpTexts } from '../../src/cli/help-texts.js';
import { loadConfig } from '../../src/cli/main.js';
import { helpAskedFor, ROOT_HELP } from '../../src/cli/start.js';
import { runCli } from './run.js';

const test = suite('help texts');

test('the texts that the build leaves are what each command says', async () => {
  const config = await loadConfig({ development: true });
  const texts = await helpTexts(config);
  assert.equal([...texts.keys()].sort(), [ROOT_HELP, ...config.commandIDs].sort());
  // In a terminal help has its width and colors.
  const words = (text: string): string => text.replace(/\u001B\[\d+m/g, '').replace(/\s+/g, '');
  assert.is(words(texts.get(ROOT_HELP) ?? ''), words((await runCli('--help')).stdout));
  // The flags of `serve` compute their defaults, those of `convert` do not.
  for (const name of ['serve', 'convert', 'profile-throughput']) {
    assert.is(words(texts.get(name) ?? ''), words((await runCli(name, '--help')).stdout), name);
  }
  for (const [name, text] of texts) {
    assert.match(text, /^USAGE$/m, name);
    assert.not.match(text, /\| *\]|\| +\|/, `${name}: usage`);
    assert.not.match(text, /\u001B/, name);
  }
});

test('the line of usage has arguments and required flags, no others', async () => {
  const texts = await helpTexts(await loadConfig({ development: true }));
  const usageOf = (name: string): string =>
    (/^USAGE\n([^]*?)\n\n/m.exec(texts.get(name) ?? '')?.[1] ?? '').replace(/\s+/g, ' ').trim();
  assert.is(usageOf('generate'), '$ yoco generate [PROMPT] [FLAGS]');
  assert.is(usageOf('data'), '$ yoco data ACTION [NAME...] [FLAGS]');
  assert.match(usageOf('convert'), /^\$ yoco convert SOURCE DESTINATION --to yoco\|.*\|gguf \[FLAGS\]$/);
  assert.is(usageOf('launch'), '$ yoco launch --ranks N [FLAGS] -- COMMAND [ARGUMENT...]');
});

test('only a command line that asks for help and nothing else is answered by a text', () => {
  const cases: [string, string | null][] = [
    ['', ROOT_HELP],
    ['--help', ROOT_HELP],
    ['help', ROOT_HELP],
    ['train --help', 'train'],
    ['help eval-mmlu', 'eval-mmlu'],
    ['train', null],
    ['train --seed', null],
    ['train --help --seed', null],
    ['help help', null],
    ['help --help', null],
    ['../train --help', null],
  ];
  for (const [line, name] of cases) {
    assert.is(helpAskedFor(line === '' ? [] : line.split(' ')), name, line);
  }
});

test.run();
