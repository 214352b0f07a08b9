import { formatTokenCount } from '../../cli/sizes.js';
import { ratioTable, type RatioColumn } from '../../profiling/ratios.js';
import {
  MEMORY_RATIOS,
  MEMORY_SCHEMA,
  PREFILL_RATIOS,
  PREFILL_SCHEMA,
  THROUGHPUT_RATIOS,
  THROUGHPUT_SCHEMA,
} from '../../profiling/tables.js';
import type { Row, Schema } from '../../results/schema.js';
import { htmlTable, paragraph } from '../html.js';
import type { Section } from '../section.js';
import { findRows, isSampled, legendName, numberIn, prefillRows, textIn } from '../tables.js';

/** The tables ratios are made of, the column a ratio gets, and how it is headed. */
const RATIOS: readonly [schema: Schema, ratios: readonly RatioColumn[], column: string, head: string][] = [
  [MEMORY_SCHEMA, MEMORY_RATIOS, 'kv_cache_ratio', 'K/V memory'],
  [MEMORY_SCHEMA, MEMORY_RATIOS, 'total_ratio', 'total memory'],
  [MEMORY_SCHEMA, MEMORY_RATIOS, 'measured_peak_ratio', 'total, measured'],
  [PREFILL_SCHEMA, PREFILL_RATIOS, 'prefill_ratio', 'prefill time'],
  [THROUGHPUT_SCHEMA, THROUGHPUT_RATIOS, 'decode_ratio', 'decoding rate'],
];

const times = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)}×`;

/** All rows of a table: each architecture may have been measured by a run of its own. */
const rowsOf = (directory: string, { name }: Schema): Row[] =>
  name === PREFILL_SCHEMA.name ? prefillRows(directory) : findRows(directory, name);

/** Whether the ratio was made of this row. */
const isPartOf = (row: Row, { model, transformer, context }: Row): boolean =>
  row.context === context && (row.model === model || row.model === transformer);

/** The key of a row of the summary: model and context. */
const keyOf = (row: Row): string => JSON.stringify([legendName(row, true), numberIn(row, 'context')]);

export function ratioSection(directory: string): Section | null {
  const lines = new Map<string, { row: Row; values: string[] }>();
  RATIOS.forEach(([schema, ratios, column], index) => {
    const rows = rowsOf(directory, schema);
    const sampled = schema === PREFILL_SCHEMA ? rows.filter(isSampled) : [];
    for (const row of ratioTable(schema, rows, ratios).rows) {
      // What the early exit saves is shown with the prefill times; the comparison is with it.
      const value = textIn(row, 'early_exit') === 'false' ? null : numberIn(row, column);
      if (value === null) continue;
      const line = lines.get(keyOf(row)) ?? { row, values: [] };
      line.values[index] = `${sampled.some((one) => isPartOf(one, row)) ? '≈ ' : ''}${times(value)}`;
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
    head: ['YOCO', 'context', ...RATIOS.filter((_, index) => used[index]).map(([, , , head]) => head)],
    rows: ordered.map(({ row, values }) => [
      `${textIn(row, 'model')} ${textIn(row, 'self_decoder')}`,
      formatTokenCount(numberIn(row, 'context') ?? 0),
      ...RATIOS.flatMap((_, index) => (used[index] ? [values[index] ?? '–'] : [])),
    ]),
    words: 1,
  });
  const isEstimated = table.includes('≈');
  const text =
    'How many times less memory and time YOCO needs than the Transformer of the same size, and how many times faster it decodes. ' +
    'The paper: K/V cache 80× smaller (65B), total memory 9.4× smaller and prefill 71.8× faster (3B, 1M tokens), decoding 9.6× faster (3B, 512K). ' +
    (isEstimated ? '≈: a prefill was summed up from sampled chunks.' : '');
  return { title: 'YOCO against the Transformer', body: paragraph(text) + table, figures: {} };
}
