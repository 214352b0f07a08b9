/** The pages are made by `site/build.ts`. The site loads nothing from other hosts. */
import { readFileSync } from 'node:fs';

const sidebar = JSON.parse(readFileSync(new URL('../pages/sidebar.json', import.meta.url), 'utf8'));

export default {
  lang: 'en',
  title: 'yoco',
  description: 'You Only Cache Once, reproduced: decoder-decoder language models beside a Transformer',
  srcDir: 'pages',
  outDir: 'dist',
  // Where the site lies on its host: /NAME/ on GitHub Pages.
  base: process.env.DOCS_BASE ?? '/',
  markdown: { html: false },
  themeConfig: {
    search: { provider: 'local' },
    nav: [
      { text: 'Guides', link: '/docs/commands' },
      { text: 'Commands', link: '/reference/' },
      { text: 'Results', link: '/docs/results' },
    ],
    sidebar,
    outline: [2, 3],
  },
};
