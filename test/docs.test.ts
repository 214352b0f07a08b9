import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { experimentNames } from '../src/cli/experiment.js';
import { loadConfig } from '../src/cli/main.js';
import { modelFlags } from '../src/cli/flags.js';
import { presetNames } from '../src/model/index.js';
import { packageRoot } from '../src/package-root.js';

const test = suite('documents');

const read = (path: string): string => readFileSync(join(packageRoot, path), 'utf8');
const inFolder = (folder: string): string[] =>
  readdirSync(join(packageRoot, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.md'))
    .map((path) => join(folder, path));
const documents = [
  ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'],
  ...['docs', 'checkpoints', 'results'].flatMap(inFolder),
];

test('links and pictures lead to files', () => {
  const broken = documents.flatMap((path) =>
    [...read(path).matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target = '']) => target.replace(/#.*$/, ''))
      .filter((target) => target !== '' && !/^[a-z]+:/.test(target))
      .filter((target) => !existsSync(join(packageRoot, dirname(path), target)))
      .map((target) => `${path}: ${target}`),
  );
  assert.equal(broken, []);
});

test('the commands and flags that documents show exist', async () => {
  const { commands } = await loadConfig({ development: true });
  const isShown = (name: string, rest: string): boolean => {
    const command = commands.find(({ id }) => id === name);
    const flags = [...rest.matchAll(/ --([a-z][\w-]*)/g)];
    return (
      command !== undefined &&
      flags.every(([, flag = '']) => flag in command.flags || flag.replace(/^no-/, '') in command.flags)
    );
  };
  const unknown = documents.flatMap((path) =>
    [...read(path).matchAll(/^(?:\$ )?(?:npx )?yoco ([a-z][\w-]*)(.*(?:\\\n.*)*)/gm)].flatMap(
      ([line = '', name = '', rest = '']) => {
        // What follows -- is another command.
        const [own = '', inner] = rest.replace(/\s#.*$/gm, '').split(' -- ');
        const [, innerName = '', innerRest = ''] = /^(\S+)(.*)$/s.exec(inner ?? '') ?? [];
        const isKnown = isShown(name, own) && (inner === undefined || isShown(innerName, innerRest));
        return isKnown ? [] : [`${path}: ${line}`];
      },
    ),
  );
  assert.equal(unknown, []);
});

test('docs/commands.md names every experiment', () => {
  const table = read('docs/commands.md');
  assert.equal(
    experimentNames().filter((name) => !table.includes(`\`${name}\``)),
    [],
  );
});

test('the help of --preset names every preset', () => {
  const help = modelFlags.preset.description ?? '';
  const names = new Set(help.split(/[^\w.-]+/));
  assert.equal(
    presetNames().filter((name) => !names.has(name)),
    [],
  );
});

test('the two commands of the README are those of the CI and of package.json', () => {
  assert.match(read('README.md'), /^npm ci && npm start\b.*\nnpm ci && npm test$/m);
  assert.match(read('.ci/run'), /^npm ci$[^]*^npm test$/m);
});

test.run();
