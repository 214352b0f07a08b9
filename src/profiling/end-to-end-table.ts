/** The table of throughput with prefill and generation together. */
import type { TableSchema } from '../results/typed.js';
import { MODEL_COLUMNS } from '../sweep/model-key.js';
import type { EndToEndFigures, EndToEndKey } from './end-to-end.js';
import type { RatioColumn } from './ratios.js';
import { CONTEXT_COLUMN, SECONDS_COLUMNS } from './tables.js';

export const END_TO_END_SCHEMA: TableSchema<EndToEndKey, EndToEndFigures> = {
  name: 'profile-throughput-end-to-end',
  columns: [
    ...MODEL_COLUMNS,
    { ...CONTEXT_COLUMN, description: 'tokens of a sequence, prompt and generated ones together' },
    { name: 'batch', kind: 'key', description: 'sequences asked for; auto: the most that fit in memory' },
    { name: 'prompt_tokens', kind: 'result', description: 'tokens of each prompt', display: 'count' },
    {
      name: 'generated_tokens',
      kind: 'result',
      description: 'tokens generated after each prompt',
      display: 'count',
    },
    { name: 'sequences', kind: 'timing', description: 'sequences side by side', display: 'count' },
    {
      name: 'chunk_tokens',
      kind: 'timing',
      description: 'tokens of each sequence prefilled at a time',
      display: 'count',
    },
    {
      name: 'estimated',
      kind: 'timing',
      description: 'true where only samples of the chunks or of the decoding steps were timed',
    },
    {
      name: 'prefilled_tokens',
      kind: 'timing',
      description: 'tokens of each prompt that were computed and timed',
      display: 'count',
    },
    {
      name: 'decoded_steps',
      kind: 'timing',
      description: 'decoding steps that were timed',
      display: 'count',
    },
    ...SECONDS_COLUMNS,
    {
      name: 'prefill_seconds',
      kind: 'timing',
      description: 'to the first generated token, median',
      display: 'seconds',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'decode_seconds',
      kind: 'timing',
      description: 'for the other generated tokens, median',
      display: 'seconds',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'tokens_per_second',
      kind: 'timing',
      description: 'generated tokens of all sequences over the median of the whole time, prefill included',
      digits: 2,
      better: 'higher',
    },
    {
      name: 'decode_tokens_per_second',
      kind: 'timing',
      description: 'tokens of the decoding steps of all sequences over their time',
      digits: 2,
      better: 'higher',
    },
    { name: 'peak_bytes', kind: 'timing', description: 'largest sum of all tensors', display: 'bytes' },
  ],
};

export const END_TO_END_RATIOS: readonly RatioColumn[] = [
  {
    name: 'throughput_ratio',
    of: 'tokens_per_second',
    over: 'yoco',
    kind: 'timing',
    description: 'throughput of YOCO over that of the Transformer, prefill and generation together',
    digits: 3,
    better: 'higher',
  },
];
