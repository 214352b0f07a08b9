import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { heatMap, lineChart, type LineChart } from '../../src/report/charts.js';

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
    'context (tokens)',
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

test.run();
