/** The pages of the site: the reference is complete, and links lead to pages. */
import { existsSync } from 'node:fs';
import { join, posix } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { PICTURES, type Site, sitePages } from '../../site/pages.js';
import { commandPage } from '../../site/reference.js';
import { loadConfig } from '../../src/cli/main.js';
import { packageRoot } from '../../src/package-root.js';

const test = suite('pages of the site');
const config = await loadConfig({ development: true });
const { pages, sidebar }: Site = sitePages(config);

test('every command has a page with all its flags, values, arguments and examples', () => {
  assert.ok(config.commands.length > 15);
  for (const command of config.commands) {
    const text = pages.get(`reference/${command.id}.md`)?.text ?? '';
    assert.ok(pages.get('reference/index.md')?.text.includes(`](${command.id}.md)`), command.id);
    const rows = text.split('\n').filter((line) => line.startsWith('| `'));
    const shown = Object.values(command.flags).filter(({ hidden }) => hidden !== true);
    assert.is(rows.length, shown.length, command.id);
    for (const flag of shown) {
      const row = rows.find((line) => new RegExp(`\`--${flag.name}[ \`]`).test(line)) ?? '';
      assert.ok(row !== '', `${command.id} --${flag.name}`);
      const values = flag.type === 'option' ? (flag.options ?? []) : [];
      const names = [...values, ...(flag.char === undefined ? [] : [`-${flag.char}`])];
      assert.equal(
        names.filter((name) => !row.includes(name)),
        [],
        row,
      );
      assert.is(row.replaceAll('\\|', '').split('|').length, 5, row);
    }
    for (const name of Object.keys(command.args)) assert.ok(text.includes(name.toUpperCase()), name);
    assert.not.match(text, /<%=/);
  }
});

test('words of a flag cannot be taken for markup', () => {
  const [command] = config.commands;
  assert.ok(command);
  const flags = {
    a: { name: 'a', type: 'boolean', description: 'x|y <b> {{ z }} *w*', allowNo: true },
  } as const;
  const text = commandPage('yoco', { ...command, flags });
  assert.match(text, /^\| `--a`, `--no-a` \| x\\\|y \\<b\\> \\\{\\\{ z \\\}\\\} \\\*w\\\* \| {2}\|$/m);
});

test('links and pictures of every page lead to pages and pictures', () => {
  const broken = [...pages].flatMap(([path, { text }]) =>
    [...text.matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target = '']) => target.replace(/#.*$/, ''))
      .filter((target) => target !== '' && !/^[a-z]+:/.test(target))
      .map((target) => posix.join(posix.dirname(path), target))
      .filter((target) => !pages.has(target) && !isPicture(target))
      .map((target) => `${path}: ${target}`),
  );
  assert.equal(broken, []);
});

const isPicture = (path: string): boolean =>
  PICTURES.some((pattern) => path.startsWith(pattern.replace('*', ''))) &&
  existsSync(join(packageRoot, path));

test('every page is in the list beside the pages', () => {
  const links = sidebar.flatMap(({ items }) => items.map(({ link }) => link));
  const expected = [...pages.keys()].map(
    (path) => `/${path.replace(/\.md$/, '').replace(/(^|\/)index$/, '$1')}`,
  );
  assert.equal([...links].sort(), expected.sort());
  assert.is(links[1], '/docs/commands');
});

test.run();
