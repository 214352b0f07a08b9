/** The few pieces of HTML a report is made of. All text passes through `escapeHtml`. */
const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

export const escapeHtml = (text: string): string =>
  text.replace(/[&<>"]/g, (character) => ESCAPES[character] ?? '');

export const paragraph = (text: string): string => `<p>${escapeHtml(text)}</p>`;

export interface HtmlTable {
  head: readonly string[];
  rows: readonly (readonly string[])[];
  /** Columns from the left that hold words; the others hold numbers and stand right. */
  words: number;
}

export function htmlTable({ head, rows, words }: HtmlTable): string {
  const cells = (tag: 'th' | 'td', texts: readonly string[]): string =>
    texts
      .map((text, index) => `<${tag}${index < words ? '' : ' class="number"'}>${escapeHtml(text)}</${tag}>`)
      .join('');
  const body = rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('\n');
  return `<div class="scroll"><table>\n<thead><tr>${cells('th', head)}</tr></thead>\n<tbody>\n${body}\n</tbody>\n</table></div>`;
}

export const figure = (svg: string): string => `<figure>${svg}</figure>`;

const STYLE = `
:root { color-scheme: light; }
body { font: 15px/1.55 system-ui, Helvetica, Arial, sans-serif; color: #1f2328; background: #f6f8fa; margin: 0; }
main { max-width: 1200px; margin: 0 auto; padding: 32px 24px 64px; background: #ffffff; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 40px 0 8px; padding-top: 16px; border-top: 1px solid #d1d9e0; }
p, dl { margin: 8px 0; }
.muted { color: #59636e; }
figure { margin: 16px 0; }
figure svg { max-width: 100%; height: auto; }
img { max-width: 100%; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; margin: 12px 0; }
th, td { padding: 5px 10px; border-bottom: 1px solid #e3e6ea; text-align: left; vertical-align: bottom; }
td.number { white-space: nowrap; }
th { border-bottom: 2px solid #d1d9e0; font-weight: 600; }
.number { text-align: right; }
code { font: 13px ui-monospace, Menlo, Consolas, monospace; background: #f6f8fa; padding: 1px 4px; }
pre { background: #f6f8fa; padding: 12px; overflow-x: auto; font: 13px ui-monospace, Menlo, Consolas, monospace; }
`;

export interface Page {
  title: string;
  subtitle: string;
  /** HTML. */
  body: string;
  /** CSS rules beside those of every page. */
  style?: string;
  /** Addresses of modules, run in this order; a page without them is one file and fetches nothing. */
  scripts?: readonly string[];
}

export function htmlPage({ title, subtitle, body, style = '', scripts = [] }: Page): string {
  const tags = scripts
    .map((source) => `<script type="module" src="${escapeHtml(source)}"></script>\n`)
    .join('');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${STYLE}${style}</style>
${tags}</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
<p class="muted">${escapeHtml(subtitle)}</p>
${body}
</main>
</body>
</html>
`;
}
