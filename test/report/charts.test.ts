import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { heatMap, lineChart, type LineChart } from '../../src/report/charts.js';
import { seriesStyles } from '../../src/report/colors.js';

const test = suite('charts');

const memory: LineChart = {
  title: 'Memory & context',
  subtitle: 'tiny',
  x: { label: 'context (tokens)', scale: 'log', unit: 'tokens' },
  y: { label: 'memory', scale: 'log', unit: 'bytes' },
  series: [
    { name: 'yoco', points: [[256, 2 ** 20], [4096, 2 ** 22], [65536, 0]] }, // prettier-ignore
    { name: 'transformer', points: [[256, 2 ** 24], [4096, 2 ** 30]], dashed: true }, // prettier-ignore
  ],
};

test('a line chart names its axes, units and series, and is well-formed', () => {
  const svg = lineChart(memory);
  assert.match(svg, /^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  for (const text of [
    'Memory &amp; context',
    'context (tokens), log scale',
    'memory, log scale',
    'yoco',
    'transformer',
    '4k',
    '1 GiB',
    '1 MiB',
  ]) {
    assert.ok(svg.includes(`>${text}</text>`), text);
  }
  assert.ok(!svg.includes('NaN') && !svg.includes('Infinity'));
});

test('a chart says what it shows to those who do not see it, escaped', () => {
  const text =
    '[^"]*tiny[^"]*yoco: 1 MiB at 256, 0 B at 64k; a&lt;b&gt;&amp;&quot;: 16 MiB at 256, 1 GiB at 4k\\.';
  const [yoco, transformer] = memory.series;
  assert.ok(yoco && transformer);
  const svg = lineChart({ ...memory, series: [yoco, { ...transformer, name: 'a<b>&"' }] });
  assert.match(svg, new RegExp(`^<svg [^>]*role="img" aria-label="Memory &amp; context ${text}">`));
  assert.match(svg, /<title>Memory &amp; context \(tiny\): memory against context/);
});

test('error bars are drawn from end to end, and those that a logarithmic axis has no place for are left out', () => {
  const count = (svg: string): number => svg.match(/<(path|line|polyline)/g)?.length ?? 0;
  const [yoco, transformer] = memory.series;
  assert.ok(yoco && transformer);
  const withBars = (bars: [number, number, number][]): string =>
    lineChart({ ...memory, series: [{ ...yoco, bars }, transformer] });
  const plain = count(withBars([]));
  assert.is(count(withBars([[256, 2 ** 20, 2 ** 21]])), plain + 3);
  assert.is(count(withBars([[256, 0, 2 ** 21]])), plain);
});

test('no two of eleven series have one colour, and no two of seventy both colour and symbol', () => {
  const names = Array.from({ length: 70 }, (_, index) => `yoco ${index}`);
  const colors = seriesStyles(names.slice(0, 11)).map(({ color }) => color);
  assert.is(new Set(colors).size, 11);
  const styles = seriesStyles(names).map(({ color, symbol }) => color + symbol);
  assert.is(new Set(styles).size, 70);
  const [paper, first, , transformer] = seriesStyles(['paper YOCO', 'yoco a', 'yoco b', 'transformer a']);
  assert.is(first?.color, '#0072b2');
  assert.is(transformer?.color, '#d55e00');
  assert.is(paper?.color, '#59636e');
});

test('the same data gives the same bytes, other data other names', () => {
  assert.is(lineChart(memory), lineChart(memory));
  assert.not.match(lineChart(memory), /\bzr\d/);
});

test('a heat map writes each value in its cell and leaves unmeasured cells out', () => {
  const svg = heatMap({
    title: 'Needle',
    x: { label: 'context (tokens)', categories: ['4k', '64k'] },
    y: { label: 'depth', categories: ['0 %', '50 %'] },
    values: [
      [1, 0.5],
      [null, 0.25],
    ],
  });
  const cells = [...svg.matchAll(/>(\d+) %<\/text>/g)].map(([, text]) => text);
  for (const value of ['100', '50', '25']) assert.ok(cells.includes(value), value);
  assert.is(
    svg,
    heatMap({
      title: 'Needle',
      x: { label: 'context (tokens)', categories: ['4k', '64k'] },
      y: { label: 'depth', categories: ['0 %', '50 %'] },
      values: [
        [1, 0.5],
        [null, 0.25],
      ],
    }),
  );
});

test('a heat map of one row has room for the scale of its colours', () => {
  const svg = heatMap({
    title: 'Needle',
    x: { label: 'context (tokens)', categories: ['1m'] },
    y: { label: 'depth', categories: ['50 %'] },
    values: [[1]],
  });
  const height = Number(/<svg width="\d+" height="(\d+)"/.exec(svg)?.[1]);
  const translations = [...svg.matchAll(/translate\(\S+ (-?[\d.]+)\)"[^>]*>(?:0|100) %</g)].map(([, y]) =>
    Number(y),
  );
  assert.ok(translations.length >= 2);
  for (const y of translations) assert.ok(y >= 8 && y <= height - 8, `a label at ${y} of ${height}`);
});

test.run();
