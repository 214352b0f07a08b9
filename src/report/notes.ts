/** What people wrote beside the tables: the README.md files of a results directory, with their caveats. */
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import MarkdownIt from 'markdown-it';
import { readBytes } from '../files/read.js';
import { escapeHtml } from './html.js';
import type { ReportSource, Section } from './section.js';

const MAX_NOTE_BYTES = 2 ** 20;

/** Raw HTML in a note is shown as text, and links that run code are not made. */
const markdown = new MarkdownIt({ html: false });
// The page has one title, and each part a heading of the second level.
markdown.core.ruler.push('lower-headings', ({ tokens }) => {
  for (const token of tokens) {
    if (token.type !== 'heading_open' && token.type !== 'heading_close') continue;
    token.tag = `h${Math.min(6, Number(token.tag.slice(1)) + 2)}`;
  }
});
// Pictures of a note lie beside it, not in the page.
markdown.disable('image');

const render = (path: string): string =>
  markdown
    .render(readBytes(path, MAX_NOTE_BYTES).toString('utf8'))
    .replaceAll('<table>', '<div class="scroll"><table>')
    .replaceAll('</table>', '</table></div>');

export function notesSection({ directory }: ReportSource): Section | null {
  const places = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => path === 'README.md' || path.endsWith('/README.md'))
    .map((path) => dirname(path))
    .sort();
  if (places.length === 0) return null;
  const parts = places.map((place) => {
    const heading = place === '.' ? '' : `<h3>${escapeHtml(place)}</h3>\n`;
    return heading + render(join(directory, place, 'README.md'));
  });
  return { title: 'Notes', body: parts.join('\n'), figures: {} };
}
