import { formatTokenCount } from '../../cli/sizes.js';
import type { Row } from '../../results/schema.js';
import { htmlTable, paragraph } from '../html.js';
import type { Section } from '../section.js';
import { findRows, legendName, numberIn, textIn } from '../tables.js';

/** Tables that hold a ratio, the column it is in, and how it is headed. */
const RATIOS: readonly [table: string, column: string, head: string][] = [
  ['profile-memory-ratio', 'kv_cache_ratio', 'K/V memory'],
  ['profile-memory-ratio', 'total_ratio', 'total memory'],
  ['profile-memory-ratio', 'measured_peak_ratio', 'total, measured'],
  ['profile-prefill-ratio', 'prefill_ratio', 'prefill time'],
  ['profile-throughput-ratio', 'decode_ratio', 'decoding rate'],
];

const times = (value: number | undefined): string =>
  value === undefined ? '–' : `${value.toFixed(value < 10 ? 2 : 1)}×`;

/** The key of a row of the summary: model and context. */
const keyOf = (row: Row): string => JSON.stringify([legendName(row, true), numberIn(row, 'context')]);

export function ratioSection(directory: string): Section | null {
  const lines = new Map<string, { row: Row; values: (number | undefined)[] }>();
  RATIOS.forEach(([table, column], index) => {
    for (const row of findRows(directory, table)) {
      // What the early exit saves is shown with the prefill times; the comparison is with it.
      const value = textIn(row, 'early_exit') === 'false' ? null : numberIn(row, column);
      if (value === null) continue;
      const line = lines.get(keyOf(row)) ?? { row, values: [] };
      line.values[index] = value;
      lines.set(keyOf(row), line);
    }
  });
  if (lines.size === 0) return null;
  const used = RATIOS.map((_, index) =>
    [...lines.values()].some(({ values }) => values[index] !== undefined),
  );
  const ordered = [...lines.values()].sort(
    (a, b) =>
      textIn(a.row, 'model').localeCompare(textIn(b.row, 'model')) ||
      textIn(a.row, 'self_decoder').localeCompare(textIn(b.row, 'self_decoder')) ||
      (numberIn(a.row, 'context') ?? 0) - (numberIn(b.row, 'context') ?? 0),
  );
  const table = htmlTable({
    head: ['YOCO', 'context', ...RATIOS.filter((_, index) => used[index]).map(([, , head]) => head)],
    rows: ordered.map(({ row, values }) => [
      `${textIn(row, 'model')} ${textIn(row, 'self_decoder')}`,
      formatTokenCount(numberIn(row, 'context') ?? 0),
      ...RATIOS.flatMap((_, index) => (used[index] ? [times(values[index])] : [])),
    ]),
    words: 1,
  });
  const text =
    'How many times less memory and time YOCO needs than the Transformer of the same size, and how many times faster it decodes. ' +
    'The paper: K/V cache 80× smaller (65B), total memory 9.4× smaller and prefill 71.8× faster (3B, 1M tokens), decoding 9.6× faster (3B, 512K).';
  return { title: 'YOCO against the Transformer', body: paragraph(text) + table, figures: {} };
}
