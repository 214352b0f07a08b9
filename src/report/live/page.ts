/** The live page without its values, and the files that it loads. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { escapeHtml, htmlPage } from '../html.js';

const STYLE = `
nav { margin: 8px 0; line-height: 2; }
nav a { margin-right: 14px; white-space: nowrap; }
.controls { display: flex; flex-wrap: wrap; gap: 8px 24px; margin: 16px 0 8px; }
.controls select { font: inherit; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 8px 24px; }
.charts section:first-child { grid-column: 1 / -1; }
.charts h2 { border: 0; padding: 0; margin: 16px 0 0; font-size: 16px; }
.charts h2 small { font-weight: 400; color: #59636e; margin-left: 6px; }
.chart { height: 260px; }
.charts section:first-child .chart { height: 380px; }
/* However many runs there are, the charts stay in view. */
.runs { max-height: 300px; overflow: auto; }
.runs table { margin-top: 0; }
.runs th { position: sticky; top: 0; background: #ffffff; }
td label { white-space: nowrap; cursor: pointer; }
.swatch { display: inline-block; width: 22px; height: 3px; margin: 0 8px 3px 6px; }
.tip { margin: 0; color: #1f2328; font-size: 13px; font-variant-numeric: tabular-nums; }
.tip td { border: 0; padding: 1px 6px; }
.problem { color: #b2182b; }
`;

const option = (value: string, text: string): string =>
  `<option value="${value}">${escapeHtml(text)}</option>`;

/** @param title what is shown: the directories */
export function livePage(title: string): string {
  const body = `<nav id="links" aria-label="Sections of the report"></nav>
<p id="problems" class="problem" role="status"></p>
<div class="controls">
<label>horizontal axis <select id="x"></select></label>
<label>detail <select id="points">
${option('60', 'smooth: 60 points')}
${option('400', '400 points')}
${option('4000', 'up to 4,000 points')}
</select></label>
<label><input type="checkbox" id="log"> loss on a log scale</label>
</div>
<div class="runs"><table id="runs"></table></div>
<div id="charts" class="charts"></div>`;
  return htmlPage({ title, subtitle: '', body, style: STYLE, scripts: ['/echarts.js', '/page.js'] });
}

const require = createRequire(import.meta.url);

/** The library of charts with lines, hover values and zoom. */
export const chartLibrary = (): string =>
  readFileSync(require.resolve('echarts/dist/echarts.common.min.js'), 'utf8');

/** The page's script as browsers take it: made by the build, or now where the sources run. */
export async function pageScript(): Promise<string> {
  const isSource = import.meta.url.endsWith('.ts');
  const text = readFileSync(new URL(`browser/page.${isSource ? 'ts' : 'js'}`, import.meta.url), 'utf8');
  if (!isSource) return text;
  const { ModuleKind, ScriptTarget, transpile } = (await import('typescript')).default;
  return transpile(text, { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 });
}
