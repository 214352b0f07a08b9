/** The pages of the site: the project's Markdown files, and the reference made from the commands' flags. */
import { existsSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { globSync } from 'tinyglobby';
import type { Config } from '@oclif/core/config';
import { packageRoot } from '../src/package-root.js';
import { commandIndex, commandPage } from './reference.js';

const SOURCES = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'docs/*.md',
  'checkpoints/*.md',
  'results/**/*.md',
];
export const PICTURES = ['docs/pictures/*'];

export interface Page {
  readonly title: string;
  readonly text: string;
}

export interface Group {
  readonly text: string;
  readonly items: readonly { readonly text: string; readonly link: string }[];
}

export interface Site {
  /** By path of the Markdown file. */
  readonly pages: ReadonlyMap<string, Page>;
  readonly sidebar: readonly Group[];
}

/** `README.md` is what a server gives for its directory. */
const pathOnSite = (path: string): string => path.replace(/(^|\/)README\.md$/, '$1index.md');

const titleOf = (text: string, path: string): string =>
  /^# (.*)$/m.exec(text)?.[1]?.replaceAll('`', '') ?? path;

/** Links lead to pages; those to other files of the repository become plain text. */
function withLinks(text: string, path: string, files: ReadonlySet<string>): string {
  return text.replace(
    /(!?)\[((?:[^[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)/g,
    (whole, mark: string, words: string, link: string) => {
      if (/^([a-z]+:|#)/.test(link)) return whole;
      const [target = '', anchor] = link.split('#');
      const place = posix.normalize(posix.join(posix.dirname(path), target)).replace(/\/$/, '');
      const found = [place, `${place}/README.md`].find((file) => files.has(file));
      if (found === undefined) return mark === '!' ? '' : words;
      const to = posix.relative(posix.dirname(path), pathOnSite(found));
      return `${mark}[${words}](${to.startsWith('.') ? to : `./${to}`}${anchor === undefined ? '' : `#${anchor}`})`;
    },
  );
}

/** The order in which the README lists the pages below "Where to go next". */
const listed = (readme: string): string[] =>
  [...readme.matchAll(/^\| \[[^\]]*\]\((docs\/[^)]*)\)/gm)].map(([, path = '']) => path);

export function sitePages({ bin, commands }: Config): Site {
  const find = (patterns: readonly string[]): string[] =>
    globSync([...patterns], { cwd: packageRoot })
      .filter((path) => existsSync(join(packageRoot, path)))
      .sort();
  const sources = find(SOURCES);
  const files = new Set([...sources, ...find(PICTURES)]);
  const pages = new Map<string, Page>();
  for (const path of sources) {
    const text = withLinks(readFileSync(join(packageRoot, path), 'utf8'), path, files);
    pages.set(pathOnSite(path), { title: titleOf(text, path), text });
  }
  const shown = commands.filter(({ hidden }) => !hidden).sort((a, b) => (a.id < b.id ? -1 : 1));
  pages.set('reference/index.md', { title: 'All commands', text: commandIndex(bin, shown) });
  for (const command of shown) {
    pages.set(`reference/${command.id}.md`, { title: command.id, text: commandPage(bin, command) });
  }
  const readme = readFileSync(join(packageRoot, 'README.md'), 'utf8');
  return { pages, sidebar: sidebarOf(pages, listed(readme)) };
}

function sidebarOf(pages: ReadonlyMap<string, Page>, order: readonly string[]): Group[] {
  const paths = [...pages.keys()];
  const guides = paths.filter((path) => path.startsWith('docs/'));
  const group = (text: string, chosen: readonly string[]): Group => ({
    text,
    items: chosen.map((path) => ({
      text: pages.get(path)?.title ?? path,
      link: `/${path.replace(/\.md$/, '').replace(/(^|\/)index$/, '$1')}`,
    })),
  });
  return [
    group('Start', ['index.md']),
    group('Guides', [...new Set([...order.filter((path) => pages.has(path)), ...guides])]),
    group(
      'Commands',
      paths.filter((path) => path.startsWith('reference/')),
    ),
    group(
      'Results',
      paths.filter((path) => /^(results|checkpoints)\//.test(path)),
    ),
    group('Project', ['CONTRIBUTING.md', 'CHANGELOG.md']),
  ];
}
