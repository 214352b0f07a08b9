import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { displayCell, formatBytes, formatNumber, formatSeconds } from '../../src/results/display.js';
import { printRows } from '../../src/results/printers.js';
import type { Row, Schema } from '../../src/results/schema.js';

const schema: Schema = {
  name: 'memory',
  columns: [
    { name: 'preset', kind: 'key', description: '' },
    { name: 'context', kind: 'key', description: '', display: 'count' },
    { name: 'cache_bytes', kind: 'result', description: '', display: 'bytes' },
    { name: 'measured_bytes', kind: 'result', description: '', display: 'bytes' },
    { name: 'ratio', kind: 'result', description: '', digits: 2 },
  ],
};
const rows: Row[] = [
  {
    preset: 'tiny',
    context: 65536,
    cache_bytes: 13314398618,
    measured_bytes: null,
    ratio: 9.4123,
    status: 'ok',
  },
  { preset: 'a|b', context: 1, cache_bytes: 0, measured_bytes: null, ratio: null, status: 'ok' },
];

const test = suite('printers');

test('a table aligns, speaks in units and leaves out what was not measured', () => {
  assert.is(
    printRows(schema, rows, 'table'),
    'preset  context  cache_bytes  ratio\ntiny     65,536     12.4 GiB   9.41\na|b           1          0 B      –\n',
  );
});

test('counts are whole or have three digits', () => {
  const column = { name: 'rate', kind: 'result', description: '', display: 'count' } as const;
  const shown = [65536, 745144320, 295.365, 1225.61, 1783703516.174].map((cell) => displayCell(column, cell));
  assert.equal(shown, ['65,536', '745,144,320', '295', '1,226', '1.78e+9']);
});

test('a table that is too wide for its reader is divided: what is alike first, keys in each part', () => {
  const wide: Schema = {
    name: 'wide',
    columns: [
      { name: 'model', kind: 'key', description: '' },
      { name: 'context', kind: 'key', description: '' },
      ...['first_figure', 'second_figure', 'third_figure'].map(
        (name) => ({ name, kind: 'result', description: '' }) as const,
      ),
    ],
  };
  const row = (context: number): Row => ({
    ...{
      model: 'tiny',
      context,
      first_figure: 1,
      second_figure: context,
      third_figure: context + 1,
      status: 'ok',
    },
  });
  const print = (width: number): string => printRows(wide, [row(10), row(20)], 'table', { width });
  assert.is(print(80), printRows(wide, [row(10), row(20)], 'table'));
  const parts = [
    'model         tiny\nfirst_figure  1\n',
    'context  second_figure  third_figure\n     10             10            11\n     20             20            21\n',
  ];
  assert.is(print(40), parts.join('\n'));
  const lines = print(24).split('\n');
  assert.ok(Math.max(...lines.map((line) => line.length)) <= 24, print(24));
  assert.is(lines.filter((line) => line.startsWith('context')).length, 2);
  assert.is(printRows(wide, [row(10)], 'csv', { width: 10 }), printRows(wide, [row(10)], 'csv'));
});

test('csv and json keep every column; empty is empty, never 0', () => {
  assert.is(printRows(schema, rows, 'csv').split('\n')[1], 'tiny,65536,13314398618,,9.41,ok,');
  const [first] = JSON.parse(printRows(schema, rows, 'json')) as Row[];
  assert.equal(first, {
    preset: 'tiny',
    context: 65536,
    cache_bytes: 13314398618,
    measured_bytes: null,
    ratio: 9.41,
    status: 'ok',
    error: null,
  });
});

test('markdown escapes bars', () => {
  assert.match(printRows(schema, rows, 'md'), '| a\\|b | 1 | 0 B | – |');
});

test('numbers read well at every size', () => {
  assert.equal([0, 0.00012, 0.1234, 12.345, 1234.5, 7.2e9].map(formatNumber), [
    '0',
    '1.20e-4',
    '0.123',
    '12.3',
    '1,235',
    '7.20e+9',
  ]);
  assert.equal([0, 1023, 1024, 1.5 * 2 ** 40].map(formatBytes), ['0 B', '1,023 B', '1 KiB', '1.5 TiB']);
  assert.equal([0.0000021, 0.0021, 2.1].map(formatSeconds), ['2.1 µs', '2.1 ms', '2.1 s']);
});

test.run();
