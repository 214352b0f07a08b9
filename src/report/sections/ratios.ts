import { formatTokenCount } from '../../results/display.js';
import { groupRows } from '../../results/group.js';
import type { Row } from '../../results/schema.js';
import { htmlTable, paragraph } from '../html.js';
import { cellOf, findRatios, QUANTITIES } from '../ratios.js';
import type { ReportSource, Section } from '../section.js';
import { numberIn, textIn } from '../tables.js';

function times(row: Row | undefined): string {
  const value = row === undefined ? null : numberIn(row, 'ratio');
  if (row === undefined || value === null) return '–';
  return `${textIn(row, 'integrated') === '' ? '' : '≈ '}${value.toFixed(value < 10 ? 2 : 1)}×`;
}

export function ratioSection({ directory }: ReportSource): Section | null {
  const { rows } = findRatios(directory);
  if (rows.length === 0) return null;
  const used = QUANTITIES.filter(({ name }) => rows.some((row) => row.quantity === name));
  const table = htmlTable({
    head: ['YOCO', 'context', ...used.map(({ head }) => head)],
    rows: [...groupRows(rows, cellOf).values()].map((cells) => {
      const [first = {}] = cells;
      return [
        [`${textIn(first, 'model')} ${textIn(first, 'self_decoder')}`, textIn(first, 'types')]
          .filter(Boolean)
          .join(', '),
        formatTokenCount(numberIn(first, 'context') ?? 0),
        ...used.map(({ name }) => times(cells.find((row) => row.quantity === name))),
      ];
    }),
    words: 1,
  });
  const isEstimated = rows.some((row) => textIn(row, 'integrated') !== '');
  const text =
    'How many times less memory and time YOCO needs than the Transformer of the same size, and how many times faster it decodes. ' +
    'The paper: K/V cache 80× smaller (65B), total memory 9.4× smaller and prefill 71.8× faster (3B, 1M tokens), throughput 9.6× higher (3B, 512K, prefill and generation together). ' +
    (isEstimated ? '≈: a prefill was summed up from sampled chunks. ' : '') +
    'ratios.timings.csv beside this page has them with both figures and where they come from.';
  return { title: 'YOCO against the Transformer', body: paragraph(text) + table, figures: {} };
}
