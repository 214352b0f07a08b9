/** `npm run docs`: writes the pages into site/pages/ and has VitePress make site/dist/ from them. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { loadConfig } from '../src/cli/main.js';
import { packageRoot } from '../src/package-root.js';
import { sitePages } from './pages.js';

const folder = join(packageRoot, 'site');
const { pages, sidebar } = sitePages(await loadConfig({ development: true }));
rmSync(join(folder, 'pages'), { recursive: true, force: true });
for (const [path, { text }] of pages) {
  const file = join(folder, 'pages', path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}
cpSync(join(packageRoot, 'docs/pictures'), join(folder, 'pages/docs/pictures'), { recursive: true });
writeFileSync(join(folder, 'pages/sidebar.json'), JSON.stringify(sidebar));
const program = join(folder, 'node_modules/vitepress/bin/vitepress.js');
execFileSync(process.execPath, [program, 'build', folder], { stdio: 'inherit' });
