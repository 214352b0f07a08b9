/** Prefill time against context. */
import { MODEL_COLUMNS } from '../cli/models.js';
import type { Engine } from '../engines/engine.js';
import { costs } from '../model/costs.js';
import type { LanguageModel } from '../model/language-model.js';
import { groupRows } from '../results/group.js';
import type { Column, Row, Schema } from '../results/schema.js';
import * as tf from '../tf.js';
import { CONTEXT_COLUMN, peakResidentBytes } from './memory.js';
import { randomTokens } from './prompt.js';
import type { RatioColumn } from './ratios.js';
import { growthExponent, summarize } from './statistics.js';
import { timeRuns } from './timing.js';

const EARLY_EXIT_COLUMN: Column = {
  name: 'early_exit',
  kind: 'key',
  description: 'positions before the last leave as early as the architecture allows',
};

/** Statistics of repeated timings. */
export const SECONDS_COLUMNS: readonly Column[] = [
  { name: 'repetitions', kind: 'timing', description: 'runs counted' },
  {
    name: 'seconds_median',
    kind: 'timing',
    description: 'median',
    display: 'seconds',
    digits: 6,
    better: 'lower',
  },
  { name: 'seconds_mean', kind: 'timing', description: 'mean', display: 'seconds', digits: 6 },
  {
    name: 'seconds_sd',
    kind: 'timing',
    description: 'sample standard deviation',
    display: 'seconds',
    digits: 6,
  },
  { name: 'seconds_min', kind: 'timing', description: 'fastest', display: 'seconds', digits: 6 },
  { name: 'seconds_max', kind: 'timing', description: 'slowest', display: 'seconds', digits: 6 },
];

export function secondsCells(seconds: readonly number[]): Row {
  const { median, mean, deviation, min, max } = summarize(seconds);
  return {
    repetitions: seconds.length,
    seconds_median: median,
    seconds_mean: mean,
    seconds_sd: deviation,
    seconds_min: min,
    seconds_max: max,
  };
}

export const PREFILL_SCHEMA: Schema = {
  name: 'profile-prefill',
  columns: [
    ...MODEL_COLUMNS,
    EARLY_EXIT_COLUMN,
    CONTEXT_COLUMN,
    { name: 'prefill_flops', kind: 'result', description: 'operations of the matrix products, by formula' },
    { name: 'chunk_tokens', kind: 'timing', description: 'tokens prefilled at a time', display: 'count' },
    ...SECONDS_COLUMNS,
    {
      name: 'tokens_per_second',
      kind: 'timing',
      description: 'context over median',
      digits: 1,
    },
    { name: 'flops_per_second', kind: 'timing', description: 'prefill_flops over median', digits: 0 },
    { name: 'peak_bytes', kind: 'timing', description: 'largest sum of all tensors', display: 'bytes' },
    {
      name: 'peak_resident_bytes',
      kind: 'timing',
      description: 'largest resident memory of the process so far',
      display: 'bytes',
    },
  ],
};

export const PREFILL_RATIOS: readonly RatioColumn[] = [
  {
    name: 'prefill_ratio',
    of: 'seconds_median',
    over: 'transformer',
    kind: 'timing',
    description: 'prefill time of the Transformer over that of YOCO',
    digits: 3,
    better: 'higher',
  },
];

export interface PrefillCell {
  context: number;
  earlyExit: boolean;
  chunkSize: number;
  seed: number;
  warmUp: number;
  repetitions: number;
  /** Called with the tokens consumed so far, by all runs together: `prefillTokens` at the end. */
  onProgress?: (tokens: number) => void;
}

/** Tokens of a warm-up run: after two chunks all kernels have run. */
const warmUpTokens = (context: number, chunkSize: number): number => Math.min(context, 2 * chunkSize);

/** Tokens consumed by all runs of a cell. */
export function prefillTokens({ context, chunkSize, warmUp, repetitions }: PrefillCell): number {
  return warmUp * warmUpTokens(context, chunkSize) + repetitions * context;
}

/** Prefills `context` random tokens over and over. */
export async function measurePrefill(model: LanguageModel, engine: Engine, cell: PrefillCell): Promise<Row> {
  const { context, earlyExit, chunkSize, seed, onProgress } = cell;
  const tokens = randomTokens(model.config, context, seed);
  const head = tf.slice(tokens, [0, 0], [1, warmUpTokens(context, chunkSize)]);
  let consumed = 0;
  const prefill = (prompt: tf.Tensor2D): void => {
    const before = consumed;
    const report = (count: number): void => {
      consumed = before + count;
      onProgress?.(consumed);
    };
    const cache = model.createCache({ maxTokens: context });
    model.prefill(prompt, cache, { chunkSize, earlyExit, onProgress: report }).dispose();
    cache.dispose();
  };
  await timeRuns(engine, cell.warmUp, () => {
    prefill(head);
  });
  engine.resetPeak();
  const seconds = await timeRuns(engine, cell.repetitions, () => {
    prefill(tokens);
  });
  tf.dispose([tokens, head]);
  const flops = costs(model.config).prefillFlops(context, { earlyExit });
  const cells = secondsCells(seconds);
  const median = Number(cells.seconds_median);
  return {
    prefill_flops: flops,
    chunk_tokens: chunkSize,
    ...cells,
    tokens_per_second: context / median,
    flops_per_second: flops / median,
    peak_bytes: engine.memory().peakBytes,
    peak_resident_bytes: peakResidentBytes(),
  };
}

const GROWTH_SCHEMA: Schema = {
  name: 'profile-prefill-growth',
  columns: [
    ...MODEL_COLUMNS,
    EARLY_EXIT_COLUMN,
    { name: 'from_context', kind: 'timing', description: 'shortest context of the fit', display: 'count' },
    { name: 'to_context', kind: 'timing', description: 'longest context of the fit', display: 'count' },
    {
      name: 'growth_exponent',
      kind: 'timing',
      description: 'p of seconds ~ context^p, least squares on logarithms: 1 linear, 2 quadratic',
      digits: 3,
      better: 'lower',
    },
  ],
};

/** How the time of each model grows with context. */
export function growthTable(rows: readonly Row[]): { schema: Schema; rows: Row[] } {
  const names = GROWTH_SCHEMA.columns.filter(({ kind }) => kind === 'key').map(({ name }) => name);
  const measured = rows.filter(({ status }) => status === 'ok');
  const groups = groupRows(measured, (row) => JSON.stringify(names.map((name) => row[name])));
  const fits = [...groups.values()].map((group): Row => {
    const points = group.map((row) => [Number(row.context), Number(row.seconds_median)] as const);
    const contexts = points.map(([context]) => context);
    return {
      ...Object.fromEntries(names.map((name) => [name, group[0]?.[name] ?? null])),
      from_context: Math.min(...contexts),
      to_context: Math.max(...contexts),
      growth_exponent: growthExponent(points),
      status: 'ok',
    };
  });
  return { schema: GROWTH_SCHEMA, rows: fits.filter((row) => row.growth_exponent !== null) };
}
