/** YOCO beside the Transformer over all tables of a results directory: each may have been measured by a run of its own. */
import { pairRows, quotientOf, type RatioColumn, type RowPair } from '../profiling/ratios.js';
import {
  MEMORY_RATIOS,
  MEMORY_SCHEMA,
  PREFILL_RATIOS,
  PREFILL_SCHEMA,
  THROUGHPUT_RATIOS,
  THROUGHPUT_SCHEMA,
} from '../profiling/tables.js';
import type { DerivedTable } from '../results/derived.js';
import { groupRowsBy } from '../results/group.js';
import type { Column, Row, Schema } from '../results/schema.js';
import { findRows, isSampled, prefillRows, textIn } from './tables.js';

interface Quantity {
  /** What `ratios.timings.csv` calls it, its unit included. */
  name: string;
  /** Head of its column on the page. */
  head: string;
  schema: Schema;
  ratio: RatioColumn;
}

function quantity(
  name: string,
  head: string,
  schema: Schema,
  ratios: readonly RatioColumn[],
  ratioName: string,
): Quantity {
  const ratio = ratios.find((column) => column.name === ratioName);
  if (ratio === undefined) throw new Error(`${schema.name} has no ratio ${ratioName}`);
  return { name, head, schema, ratio };
}

export const QUANTITIES: readonly Quantity[] = [
  quantity('kv_cache_bytes', 'K/V memory', MEMORY_SCHEMA, MEMORY_RATIOS, 'kv_cache_ratio'),
  quantity('total_bytes', 'total memory', MEMORY_SCHEMA, MEMORY_RATIOS, 'total_ratio'),
  quantity('measured_peak_bytes', 'total, measured', MEMORY_SCHEMA, MEMORY_RATIOS, 'measured_peak_ratio'),
  quantity('prefill_seconds', 'prefill time', PREFILL_SCHEMA, PREFILL_RATIOS, 'prefill_ratio'),
  quantity('decode_tokens_per_second', 'decoding rate', THROUGHPUT_SCHEMA, THROUGHPUT_RATIOS, 'decode_ratio'),
];

const key = (name: string, description: string): Column => ({ name, kind: 'key', description });
// Most quotients are of times.
const timing = (name: string, description: string): Column => ({ name, kind: 'timing', description });

const RATIOS_SCHEMA: Schema = {
  name: 'ratios',
  columns: [
    key('model', 'the YOCO model'),
    key('self_decoder', 'its self-decoder'),
    key('baseline', 'the Transformer it is compared with'),
    key('types', 'of K/V and of products, of both, where they are not as tensors are stored'),
    key('context', 'tokens'),
    key('quantity', 'what is compared, with its unit'),
    timing('yoco', 'of YOCO'),
    timing('transformer', 'of the Transformer'),
    { ...timing('ratio', 'one over the other, above 1 where YOCO needs less or is faster'), digits: 3 },
    timing('integrated', 'yoco, transformer or both: whose prefill was summed up from sampled chunks'),
    timing('yoco_folder', 'where its table is'),
    timing('transformer_folder', 'where its table is'),
  ],
};

const rowsOf = (directory: string, { name }: Schema): Row[] =>
  name === PREFILL_SCHEMA.name ? prefillRows(directory) : findRows(directory, name);

function integratedOf({ yoco, transformer }: RowPair): string | null {
  const [ours, other] = [isSampled(yoco), isSampled(transformer)];
  if (ours && other) return 'both';
  return ours ? 'yoco' : other ? 'transformer' : null;
}

function ratioRow({ name, schema, ratio }: Quantity, pair: RowPair): Row | null {
  const { yoco, transformer } = pair;
  const value = quotientOf(pair, ratio);
  // What the early exit saves is shown with the prefill times; the comparison is with it.
  if (value === null || textIn(yoco, 'early_exit') === 'false') return null;
  return {
    model: yoco.model ?? null,
    self_decoder: yoco.self_decoder ?? null,
    baseline: transformer.model ?? null,
    types: textIn(yoco, 'types') || null,
    context: yoco.context ?? null,
    quantity: name,
    yoco: yoco[ratio.of] ?? null,
    transformer: transformer[ratio.of] ?? null,
    ratio: value,
    integrated: schema === PREFILL_SCHEMA ? integratedOf(pair) : null,
    yoco_folder: yoco.folder ?? null,
    transformer_folder: transformer.folder ?? null,
  };
}

/** The cell of a ratio: models and context. */
export const cellOf = ({ model, self_decoder: selfDecoder, types, context }: Row): string =>
  JSON.stringify([model, selfDecoder, types, context]);

/** All ratios, by model and context; of several measurements of a cell the first folder's counts. */
export function findRatios(directory: string): DerivedTable {
  const rows = QUANTITIES.flatMap((one) => {
    const formed = groupRowsBy(rowsOf(directory, one.schema), ['types'])
      .flatMap((rows) => pairRows(one.schema, rows))
      .map((pair) => ratioRow(one, pair))
      .filter((row) => row !== null);
    return formed.filter((row, i) => formed.findIndex((other) => cellOf(other) === cellOf(row)) === i);
  });
  const ordered = rows.sort(
    (a, b) =>
      textIn(a, 'model').localeCompare(textIn(b, 'model')) ||
      textIn(a, 'self_decoder').localeCompare(textIn(b, 'self_decoder')) ||
      textIn(a, 'types').localeCompare(textIn(b, 'types')) ||
      Number(a.context) - Number(b.context),
  );
  return { schema: RATIOS_SCHEMA, rows: ordered };
}
