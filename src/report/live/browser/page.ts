/**
 * The live page in the browser: asks the server for what is new and draws it. The page has `echarts` as a global; this file
 * imports types alone, so that it runs as it is.
 */
import type * as ECharts from 'echarts';
import type { Abscissa, Curve, Link, LiveChart, RunSummary, View } from '../view.js';

declare const echarts: typeof ECharts;

const EVERY_MS = 1000;
const X_LABELS: Readonly<Record<Abscissa, string>> = { tokens: 'tokens', steps: 'steps', hours: 'hours' };

function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`);
  return found;
}

const xSelect = element('x', HTMLSelectElement);
const pointsSelect = element('points', HTMLSelectElement);
const logBox = element('log', HTMLInputElement);

/** Names of runs that the reader has switched off. */
const hidden = new Set<string>();
const plots = new Map<string, { readonly box: HTMLElement; readonly chart: ECharts.ECharts }>();
let view: View | undefined;
let links = '';

const compact = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 2 });

function formatValue(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-3) return value.toExponential(2);
  return size >= 10_000 ? compact.format(value) : String(Number(value.toPrecision(5)));
}

const formatTick = (value: number): string =>
  Math.abs(value) >= 1000 ? compact.format(value) : String(Number(value.toPrecision(4)));

function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  text = '',
  ...children: Node[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.append(...(text === '' ? [] : [text]), ...children);
  return made;
}

const colorOf = (name: string): string => view?.runs.find((run) => run.name === name)?.color ?? '#1f2328';

const nameOf = (curve: Curve): string => (curve.kind === '' ? curve.run : `${curve.run} ${curve.kind}`);

/** The point of a curve nearest to x, in ascending points. */
function nearest(points: Curve['points'], x: number): readonly [number, number] | undefined {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((points[middle]?.[0] ?? 0) <= x) low = middle;
    else high = middle;
  }
  const [left, right] = [points[low], points[high]];
  if (left === undefined || right === undefined) return left ?? right;
  return x - left[0] <= right[0] - x ? left : right;
}

/** What is shown beside the pointer: the nearest value of every curve. */
function hoverTable(chart: LiveChart, x: number): HTMLElement {
  const rows = shownCurves(chart).flatMap((curve) => {
    const point = nearest(curve.points, x);
    if (point === undefined) return [];
    const swatch = make('span');
    swatch.className = 'swatch';
    swatch.style.background = colorOf(curve.run);
    const value = make('td', formatValue(point[1]));
    const place = make('td', `at ${whole.format(point[0])}`);
    value.className = place.className = 'number';
    return [make('tr', '', make('td', '', swatch, document.createTextNode(nameOf(curve))), value, place)];
  });
  const table = make('table', '', ...rows);
  table.className = 'tip';
  return table;
}

const shownCurves = (chart: LiveChart): Curve[] =>
  chart.curves.filter(({ run, points }) => !hidden.has(run) && points.length > 0);

const isLoss = (chart: LiveChart): boolean => /loss|bits/i.test(chart.title);

function optionOf(chart: LiveChart, x: Abscissa): ECharts.EChartsOption {
  const axis = { splitLine: { lineStyle: { color: '#e3e6ea' } } };
  const label = { formatter: formatTick, hideOverlap: true, color: '#1f2328' };
  return {
    animation: false,
    textStyle: { fontFamily: 'system-ui, Helvetica, Arial, sans-serif' },
    grid: { left: 56, right: 16, top: 12, bottom: 44 },
    tooltip: {
      trigger: 'axis',
      confine: true,
      transitionDuration: 0,
      formatter: (parameters) => {
        const [first] = Array.isArray(parameters) ? parameters : [parameters];
        const at = (first as { axisValue?: unknown } | undefined)?.axisValue;
        return hoverTable(chart, Number(at));
      },
    },
    dataZoom: [{ type: 'inside', filterMode: 'none', zoomOnMouseWheel: 'ctrl' }],
    xAxis: {
      ...axis,
      type: 'value',
      max: 'dataMax',
      axisLabel: label,
      name: X_LABELS[x],
      nameLocation: 'middle',
      nameGap: 26,
    },
    yAxis: {
      ...axis,
      scale: true,
      type: logBox.checked && isLoss(chart) ? 'log' : 'value',
      axisLabel: label,
    },
    series: shownCurves(chart).map((curve) => ({
      type: 'line',
      id: nameOf(curve),
      name: nameOf(curve),
      data: curve.points.map((point) => [...point]),
      color: colorOf(curve.run),
      showSymbol: curve.points.length < 30,
      symbolSize: 5,
      lineStyle: { width: 1.8, type: curve.kind === '' ? 'solid' : 'dashed' },
    })),
  };
}

function plotOf({ id, title, unit }: LiveChart): ECharts.ECharts {
  const known = plots.get(id);
  if (known !== undefined) return known.chart;
  const canvas = make('div');
  canvas.className = 'chart';
  const box = make('section', '', make('h2', title, make('small', unit)), canvas);
  element('charts', HTMLDivElement).append(box);
  const chart = echarts.init(canvas, null, { renderer: 'svg' });
  plots.set(id, { box, chart });
  return chart;
}

function drawCharts({ charts, x }: View): void {
  for (const [id, { box, chart }] of plots) {
    if (charts.some((shown) => shown.id === id)) continue;
    chart.dispose();
    box.remove();
    plots.delete(id);
  }
  for (const chart of charts) {
    // A zoom stays where it is while curves grow.
    plotOf(chart).setOption(optionOf(chart, x), { replaceMerge: ['series'] });
  }
}

function runRow(run: RunSummary, headings: readonly string[]): HTMLTableRowElement {
  const box = make('input');
  box.type = 'checkbox';
  box.checked = !hidden.has(run.name);
  box.addEventListener('change', () => {
    if (box.checked) hidden.delete(run.name);
    else hidden.add(run.name);
    if (view !== undefined) drawCharts(view);
  });
  const swatch = make('span');
  swatch.className = 'swatch';
  swatch.style.background = run.color;
  const numbers = headings.map((heading) => {
    const cell = make('td', run.cells[heading] ?? '–');
    cell.className = 'number';
    return cell;
  });
  const age = make('td', run.changedAt === null ? '–' : new Date(run.changedAt).toLocaleString('sv-SE'));
  age.className = 'number';
  const label = make('label', '', box, swatch, document.createTextNode(run.name));
  return make('tr', '', make('td', '', label), ...numbers, age);
}

function drawRuns({ runs }: View): void {
  const table = element('runs', HTMLTableElement);
  const [first] = runs;
  if (first === undefined) {
    table.replaceChildren(make('caption', 'No training run yet: it appears here when it begins.'));
    return;
  }
  const headings = Object.keys(first.cells);
  const head = ['run', ...headings, 'written'].map((text, index) => {
    const cell = make('th', text);
    if (index > 0) cell.className = 'number';
    return cell;
  });
  table.replaceChildren(
    make('thead', '', make('tr', '', ...head)),
    make('tbody', '', ...runs.map((run) => runRow(run, headings))),
  );
}

async function drawLinks(tables: string): Promise<void> {
  if (tables === links) return;
  links = tables;
  const found = (await (await fetch('/links')).json()) as Link[];
  const anchors = found.map(({ text, href }) => {
    const anchor = make('a', text);
    anchor.href = href;
    return anchor;
  });
  element('links', HTMLElement).replaceChildren(...anchors);
}

function draw(found: View): void {
  view = found;
  const options = found.abscissas.map((name) => new Option(X_LABELS[name], name, false, name === found.x));
  xSelect.replaceChildren(...options);
  drawRuns(found);
  drawCharts(found);
}

const tell = (problems: readonly string[]): void => {
  element('problems', HTMLParagraphElement).textContent = problems.join('\n');
};

const tellError = (error: unknown): void => {
  tell([`The server does not answer: ${error instanceof Error ? error.message : String(error)}`]);
};

async function update(): Promise<void> {
  const query = new URLSearchParams({
    points: pointsSelect.value,
    ...(xSelect.value && { x: xSelect.value }),
  });
  try {
    const answer = await fetch(`/view?${query}`);
    if (!answer.ok) throw new Error(await answer.text());
    const found = (await answer.json()) as View;
    if (found.version !== view?.version) draw(found);
    tell(found.problems);
    // Reports take a while to make; curves do not wait for them.
    drawLinks(found.tables).catch(tellError);
  } catch (error) {
    tellError(error);
  }
}

/** Looks for news while somebody looks at the page. */
async function follow(): Promise<void> {
  if (!document.hidden) await update();
  setTimeout(() => void follow(), EVERY_MS);
}

for (const control of [xSelect, pointsSelect]) control.addEventListener('change', () => void update());
logBox.addEventListener('change', () => {
  if (view !== undefined) drawCharts(view);
});
window.addEventListener('resize', () => {
  for (const { chart } of plots.values()) chart.resize();
});
pointsSelect.value = '400';
void follow();
