/**
 * Charts as SVG text, rendered by echarts without a browser. The same data gives the same bytes.
 *
 * Loading echarts takes most of a second: import this module inside `run()`.
 */
import { createHash } from 'node:crypto';
import { init, type EChartsOption } from 'echarts';
import { axisOption, formatAt, type Axis } from './axes.js';
import { INK, MUTED_INK, seriesStyles } from './colors.js';
import { errorBars } from './error-bars.js';
import { escapeHtml } from './html.js';

export type { Axis } from './axes.js';

export interface LineSeries {
  /** Legend text. The first `yoco…` and the first `transformer…` have the same colours in every chart, references are grey. */
  name: string;
  points: readonly (readonly [x: number, y: number])[];
  /** Error bars: the ends of an interval at x, such as a 95 % interval or one standard deviation to each side. */
  bars?: readonly (readonly [x: number, low: number, high: number])[];
  /** For what was computed rather than measured. */
  dashed?: boolean;
  /** A law fitted to the points, drawn in their colour; the points are then not joined. */
  curve?: readonly (readonly [x: number, y: number])[];
}

export interface LineChart {
  title: string;
  /** What was measured where: model size, engine, machine. */
  subtitle?: string;
  x: Axis;
  y: Axis;
  series: readonly LineSeries[];
}

export interface HeatMap {
  title: string;
  subtitle?: string;
  /** Column and row labels, left to right and top to bottom. */
  x: { label: string; categories: readonly string[] };
  y: { label: string; categories: readonly string[] };
  /** `values[row][column]`; null where nothing was measured. */
  values: readonly (readonly (number | null)[])[];
  /** What the colours run over, worst to best. Default 0 to 1, shown in per cent. */
  range?: readonly [worst: number, best: number];
  /** Text of a cell and of the colour scale. Default: per cent. */
  format?: (value: number) => string;
}

const WIDTH = 760;
const FONT = 'Helvetica, Arial, sans-serif';
/** Red to green through yellow, told apart by lightness too. */
const HEAT_COLORS = ['#b2182b', '#ef8a62', '#fddbc7', '#d9f0d3', '#7fbf7b', '#1b7837'];

function titleOption(title: string, subtitle: string | undefined): EChartsOption['title'] {
  return {
    text: title,
    subtext: subtitle,
    left: 16,
    top: 10,
    textStyle: { fontSize: 16, fontWeight: 600, color: INK },
    subtextStyle: { fontSize: 12, color: MUTED_INK },
  };
}

/**
 * Without what only a live page needs (hover styles, chart metadata), and with names that depend on the content:
 * echarts numbers its instances, but files shall not differ from run to run, nor names clash within a page.
 */
function settle(svg: string, seed: string): string {
  const prefix = `c${createHash('sha256').update(seed).digest('hex').slice(0, 8)}`;
  return svg
    .replace(/<style[^>]*>.*?<\/style>\n?/gs, '')
    .replace(/ (?:class|ecmeta_\w+)="[^"]*"/g, '')
    .replace(/\bzr\d+-/g, `${prefix}-`);
}

/** @param description what a reader who does not see the picture is told */
function render(option: EChartsOption, height: number, description: string): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    textStyle: { fontFamily: FONT, color: INK },
    ...option,
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  const text = escapeHtml(description.replace(/\s+/g, ' '));
  return settle(svg, JSON.stringify(option)).replace(
    /^(<svg [^>]*)>/,
    (_whole, opening: string) => `${opening} role="img" aria-label="${text}">\n<title>${text}</title>`,
  );
}

const LEGEND_ICON = 28;
const LEGEND_GAP = 20;
const LEGEND_ROW = 30;

/** Rows into which echarts breaks a legend, by the usual width of a letter. */
function countLegendRows(names: readonly string[]): number {
  let rows = 1;
  let used = 0;
  for (const name of names) {
    const width = LEGEND_ICON + 5 + 6.8 * name.length + LEGEND_GAP;
    if (used > 0 && used + width > WIDTH - 32) {
      rows += 1;
      used = 0;
    }
    used += width;
  }
  return rows;
}

const heading = ({ title, subtitle }: { title: string; subtitle?: string }): string =>
  subtitle ? `${title} (${subtitle})` : title;

/** The first and last point of every line, in words. */
function describeLines(chart: LineChart): string {
  const { x, y } = chart;
  const lines = chart.series.map(({ name, points }) => {
    const ends = [points[0], points.length > 1 ? points.at(-1) : undefined]
      .filter((point) => point !== undefined)
      .map((point) => `${formatAt(y, point[1])} at ${formatAt(x, point[0])}`);
    return `${name}: ${ends.join(', ') || 'nothing measured'}`;
  });
  return `${heading(chart)}: ${y.label} against ${x.label}. ${lines.join('; ')}.`;
}

/** A line for each series over common axes. Points without a positive value are left out on logarithmic axes. */
export function lineChart(chart: LineChart): string {
  const drawable = ([x, y]: readonly [number, number]): boolean =>
    Number.isFinite(x) &&
    Number.isFinite(y) &&
    (chart.x.scale !== 'log' || x > 0) &&
    (chart.y.scale !== 'log' || y > 0);
  const styles = seriesStyles(chart.series.map(({ name }) => name));
  const series = chart.series.map((line, index) => {
    const points = line.points.filter(drawable).map(([x, y]) => [x, y]);
    return {
      type: 'line' as const,
      name: line.name,
      data: points,
      ...styles[index],
      symbolSize: 7,
      showSymbol: points.length <= 40,
      lineStyle: { width: line.curve ? 0 : 2, type: line.dashed ? ('dashed' as const) : ('solid' as const) },
    };
  });
  const curves = chart.series.map(({ curve = [] }, index) => ({
    type: 'line' as const,
    data: curve.filter(drawable).map(([x, y]) => [x, y]),
    showSymbol: false,
    color: styles[index]?.color,
    lineStyle: { width: 1.5, type: 'dashed' as const },
    silent: true,
  }));
  const bars = chart.series.map(({ bars: all = [] }) =>
    all.filter(([x, low, high]) => drawable([x, low]) && drawable([x, high])),
  );
  const points = [...series, ...curves].flatMap(({ data }) => data);
  const ends = bars.flat().flatMap(([, low, high]) => [low, high]);
  const values = (axis: 0 | 1): number[] => [
    ...points.map((point) => point[axis] ?? NaN),
    ...(axis === 1 ? ends : []),
  ];
  const legendRows = countLegendRows(chart.series.map(({ name }) => name));
  const legendTop = chart.subtitle ? 60 : 40;
  const top = legendTop + 14 + LEGEND_ROW * legendRows;
  return render(
    {
      title: titleOption(chart.title, chart.subtitle),
      legend: {
        top: legendTop,
        left: 16,
        data: chart.series.map(({ name }) => name),
        itemWidth: LEGEND_ICON,
        itemHeight: 10,
        itemGap: LEGEND_GAP,
        textStyle: { color: INK },
      },
      grid: { left: 84, right: 36, top, bottom: 58 },
      xAxis: axisOption(chart.x, values(0), 'x'),
      yAxis: axisOption(chart.y, values(1), 'y'),
      series: [
        ...series,
        ...curves.filter(({ data }) => data.length > 0),
        ...bars.map((part, index) => errorBars(part, styles[index]?.color ?? INK)),
      ],
    },
    top + 296,
    describeLines(chart),
  );
}

const percent = (value: number): string => `${Math.round(value * 100)} %`;

/** Every row of a heat map in words. */
function describeCells({ x, y, values, ...chart }: HeatMap, format: (value: number) => string): string {
  const rows = y.categories.map((label, row) => {
    const cells = x.categories.map((column, index) => {
      const value = values[row]?.[index] ?? null;
      return `${column} ${value === null ? 'not measured' : format(value)}`;
    });
    return `${label}: ${cells.join(', ')}`;
  });
  return `${heading(chart)}, by ${y.label} and ${x.label}. ${rows.join('; ')}.`;
}

/** A grid of coloured cells with their values written in them. */
export function heatMap(chart: HeatMap): string {
  const [worst, best] = chart.range ?? [0, 1];
  const format = chart.format ?? percent;
  const cells = chart.values.flatMap((row, y) =>
    row.flatMap((value, x) => (value === null ? [] : [[x, y, value]])),
  );
  const category = (axis: { label: string; categories: readonly string[] }, nameGap: number): object => ({
    type: 'category' as const,
    data: [...axis.categories],
    name: axis.label,
    nameLocation: 'middle' as const,
    nameGap,
    nameTextStyle: { color: INK },
    axisTick: { show: false },
    axisLine: { show: false },
    axisLabel: { color: INK, interval: 0 },
  });
  return render(
    {
      title: titleOption(chart.title, chart.subtitle),
      grid: { left: 84, right: 108, top: 70, bottom: 58 },
      xAxis: category(chart.x, 34),
      yAxis: { ...category(chart.y, 58), inverse: true },
      visualMap: {
        min: Math.min(worst, best),
        max: Math.max(worst, best),
        right: 12,
        top: 'middle',
        itemHeight: 180,
        inRange: { color: worst < best ? HEAT_COLORS : [...HEAT_COLORS].reverse() },
        formatter: (value: unknown) => format(Number(value)),
        calculable: true,
        textStyle: { color: INK },
      },
      series: [
        {
          type: 'heatmap',
          data: cells,
          itemStyle: { borderColor: '#ffffff', borderWidth: 2 },
          label: {
            show: true,
            fontSize: 11,
            formatter: ({ value }) => format(Number((value as number[])[2])),
          },
        },
      ],
    },
    // One row of cells is lower than the scale of colours, 180 high, and its labels.
    Math.max(220, 150 + 34 * chart.y.categories.length),
    describeCells(chart, format),
  );
}
