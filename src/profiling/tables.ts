/** The tables of the profiling commands: their columns, and the ratios made of them. */
import { MODEL_COLUMNS } from '../sweep/model-key.js';
import type { Column } from '../results/schema.js';
import type { SnakeCase, TableSchema } from '../results/typed.js';
import type { MemoryFigures, MemoryKey } from './memory.js';
import type { PrefillFigures, PrefillKey } from './prefill.js';
import type { RatioColumn } from './ratios.js';
import type { ThroughputFigures, ThroughputKey } from './throughput.js';
import type { SecondsFigures } from './timing.js';

export const bytesColumn = <Name extends string>(name: Name, description: string): Column<Name> => ({
  name,
  kind: 'result',
  description,
  display: 'bytes',
  better: 'lower',
});

export const CONTEXT_COLUMN: Column<'context'> = {
  name: 'context',
  kind: 'key',
  description: 'tokens in the context',
  display: 'count',
};

/** How much of a context was a prompt. */
const PREFILLED_COLUMN: Column<'prefilled_tokens'> = {
  name: 'prefilled_tokens',
  kind: 'timing',
  description: 'tokens of the context that were computed; the others are random keys and values',
  display: 'count',
};

export const MEMORY_SCHEMA: TableSchema<MemoryKey, MemoryFigures> = {
  name: 'profile-memory',
  columns: [
    ...MODEL_COLUMNS,
    CONTEXT_COLUMN,
    { name: 'bytes_per_element', kind: 'result', description: 'assumed for weights, caches and activations' },
    { name: 'chunk_tokens', kind: 'result', description: 'tokens prefilled at a time', display: 'count' },
    bytesColumn('weights_bytes', 'computed'),
    bytesColumn('kv_cache_bytes', 'keys and values of the whole context, computed'),
    bytesColumn('kv_bytes_per_token', 'keys and values of one token, computed'),
    bytesColumn('state_bytes', 'recurrent states or windows, which do not grow, computed'),
    bytesColumn('activation_bytes', 'largest activations of a chunk, computed'),
    bytesColumn('total_bytes', 'the sum, computed'),
    bytesColumn(
      'total_concatenated_bytes',
      'with the copy of one layer that the official Transformer makes to append',
    ),
    bytesColumn('measured_weights_bytes', 'tensors of the model'),
    bytesColumn('measured_kv_cache_bytes', 'keys and values as allocated'),
    bytesColumn('measured_state_bytes', 'recurrent states or windows as allocated'),
    bytesColumn('measured_peak_bytes', 'largest sum of all tensors during the prefill'),
    PREFILLED_COLUMN,
    {
      ...bytesColumn(
        'reserved_peak_bytes',
        'taken from the device for tensors and workspaces at their peak, cached memory included',
      ),
      kind: 'timing',
    },
    {
      ...bytesColumn(
        'device_used_bytes',
        'in use on the device by its driver, beyond what was before the engine started',
      ),
      kind: 'timing',
    },
    {
      ...bytesColumn('peak_resident_bytes', 'largest resident memory of the process so far'),
      kind: 'timing',
    },
  ],
};

const ratio = (name: string, of: string, description: string): RatioColumn => ({
  name,
  of,
  over: 'transformer',
  kind: 'result',
  description,
  digits: 3,
  better: 'higher',
});

export const MEMORY_RATIOS: readonly RatioColumn[] = [
  ratio('kv_cache_ratio', 'kv_cache_bytes', 'K/V cache of the Transformer over that of YOCO'),
  ratio('total_ratio', 'total_bytes', 'total memory of the Transformer over that of YOCO'),
  ratio('total_concatenated_ratio', 'total_concatenated_bytes', 'the same with the official copy'),
  ratio('measured_kv_cache_ratio', 'measured_kv_cache_bytes', 'the same, measured'),
  ratio('measured_peak_ratio', 'measured_peak_bytes', 'the same, measured'),
];

export const EARLY_EXIT_COLUMN: Column<'early_exit'> = {
  name: 'early_exit',
  kind: 'key',
  description: 'positions before the last leave as early as the architecture allows',
};

/** Statistics of repeated timings. */
export const SECONDS_COLUMNS: readonly Column<SnakeCase<keyof SecondsFigures>>[] = [
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

export const PREFILL_SCHEMA: TableSchema<PrefillKey, PrefillFigures> = {
  name: 'profile-prefill',
  columns: [
    ...MODEL_COLUMNS,
    EARLY_EXIT_COLUMN,
    CONTEXT_COLUMN,
    { name: 'prefill_flops', kind: 'result', description: 'operations of the matrix products, by formula' },
    { name: 'chunk_tokens', kind: 'timing', description: 'tokens prefilled at a time', display: 'count' },
    PREFILLED_COLUMN,
    ...SECONDS_COLUMNS,
    {
      name: 'tokens_per_second',
      kind: 'timing',
      description: 'context over median',
      digits: 1,
    },
    { name: 'flops_per_second', kind: 'timing', description: 'prefill_flops over median', digits: 0 },
    {
      name: 'product_flops_per_second',
      kind: 'timing',
      description: 'of a large matrix product on one device, directly after each run; median',
      digits: 0,
    },
    {
      name: 'product_share',
      kind: 'timing',
      description:
        'flops_per_second over that, by run, of all devices where several divide the context; median. With --compute float8 it may be above 1: that product is of --dtype',
      digits: 3,
      display: 'percent',
    },
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

export const THROUGHPUT_SCHEMA: TableSchema<ThroughputKey, ThroughputFigures> = {
  name: 'profile-throughput',
  columns: [
    ...MODEL_COLUMNS,
    CONTEXT_COLUMN,
    { name: 'decode_flops', kind: 'result', description: 'operations for one token, by formula' },
    {
      name: 'bytes_read',
      kind: 'result',
      description:
        'weights, keys, values and states that one token needs, by formula; of each device where several divide the context',
      display: 'bytes',
    },
    {
      name: 'bytes_streamed',
      kind: 'result',
      description: 'the same with keys and values counted in every layer that attends to them',
      display: 'bytes',
    },
    PREFILLED_COLUMN,
    ...SECONDS_COLUMNS,
    {
      name: 'tokens_per_second',
      kind: 'timing',
      description: 'one over the median',
      digits: 2,
      better: 'higher',
    },
    {
      name: 'bytes_per_second',
      kind: 'timing',
      description: 'bytes_streamed over the median',
      digits: 0,
      display: 'bytes',
    },
    {
      name: 'copy_bytes_per_second',
      kind: 'timing',
      description: 'read and written by a large copy on this engine, in the same run',
      digits: 0,
      display: 'bytes',
    },
    {
      name: 'copy_share',
      kind: 'timing',
      description: 'bytes_per_second over that',
      digits: 3,
      display: 'percent',
      better: 'higher',
    },
  ],
};

export const THROUGHPUT_RATIOS: readonly RatioColumn[] = [
  {
    name: 'decode_ratio',
    of: 'tokens_per_second',
    over: 'yoco',
    kind: 'timing',
    description: 'decoding rate of YOCO over that of the Transformer',
    digits: 3,
    better: 'higher',
  },
];
