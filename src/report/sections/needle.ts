import { formatTokenCount } from '../../cli/sizes.js';
import { needleFigures } from '../../evaluation/needle-figures.js';
import { formatBytes, formatSeconds } from '../../results/display.js';
import type { Row } from '../../results/schema.js';
import { figure, htmlTable, paragraph } from '../html.js';
import type { Section } from '../section.js';
import { findRows, legendName, numberIn, percent, textIn } from '../tables.js';

const shown = (row: Row, column: string, format: (value: number) => string): string => {
  const value = numberIn(row, column);
  return value === null ? '–' : format(value);
};

function contextTable(rows: readonly Row[]): string {
  return htmlTable({
    head: [
      'model',
      'needles',
      'context',
      'trials',
      'accuracy',
      '95 % interval',
      'first token',
      'peak memory',
    ],
    rows: rows.map((row) => [
      legendName(row, true),
      textIn(row, 'needles'),
      shown(row, 'context', formatTokenCount),
      textIn(row, 'trials'),
      percent(numberIn(row, 'accuracy')),
      `${percent(numberIn(row, 'interval_low'))} – ${percent(numberIn(row, 'interval_high'))}`,
      shown(row, 'first_token_seconds', formatSeconds),
      shown(row, 'peak_bytes', formatBytes),
    ]),
    words: 1,
  });
}

export function needleSection(directory: string): Section | null {
  const rows = findRows(directory, 'needle');
  if (rows.length === 0) return null;
  const figures = [...needleFigures(rows)];
  const contexts = findRows(directory, 'needle-contexts');
  const text =
    'Share of trials that give exactly the number hidden in the text, by context length and by the depth of the needle.';
  return {
    title: 'Needle in a haystack',
    body:
      paragraph(text) +
      figures.map(([, svg]) => figure(svg)).join('\n') +
      (contexts.length > 0 ? contextTable(contexts) : ''),
    figures: Object.fromEntries(figures.map(([file, svg]) => [file.replace(/\.svg$/, ''), svg])),
  };
}
