/** How tokens are drawn where the caller leaves it open: as the checkpoint's `generation_config.json` says. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readFields } from '../../data/tokenizers/json.js';
import { RunError, UsageError } from '../../errors.js';
import { checkSampling, type SamplingOptions } from './sampling.js';

/** What a caller or a checkpoint says; `temperature` 0 is greedy. */
export interface SamplingSettings {
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
}

const FILE = 'generation_config.json';
/** What transformers takes where the file draws at random and names none. */
const USUAL = { temperature: 1, top_k: 50, top_p: 1 };

/**
 * The settings of a checkpoint directory whose file has `do_sample: true`; null for any other.
 * @throws RunError that names the file, for a value that is no number
 */
export function checkpointSampling(directory: string): SamplingSettings | null {
  const file = join(directory, FILE);
  const fields = existsSync(file) ? readFields(file) : {};
  if (fields.do_sample !== true) return null;
  const number = (name: keyof typeof USUAL): number => {
    const value = fields[name] ?? USUAL[name];
    if (typeof value !== 'number') throw new RunError(`${file}: ${name} must be a number`);
    return value;
  };
  // transformers switches a filter off by 0.
  const topK = number('top_k') || undefined;
  return { temperature: number('temperature'), topK, topP: number('top_p') };
}

/**
 * How to draw, what is given going before what the checkpoint says; null: always the likeliest token.
 * @throws UsageError for values that cannot be meant
 */
export function chooseSampling(
  given: SamplingSettings,
  ofCheckpoint: SamplingSettings | null,
): Omit<SamplingOptions, 'random'> | null {
  // A temperature of the caller's is a way of drawing of its own.
  const base = given.temperature === undefined ? ofCheckpoint : null;
  const temperature = given.temperature ?? base?.temperature ?? 0;
  if (temperature === 0) {
    if (given.topK === undefined && given.topP === undefined) return null;
    throw new UsageError('--top-k and --top-p say how to draw at random: give --temperature, such as 0.8');
  }
  const options = {
    temperature,
    topK: given.topK ?? base?.topK ?? null,
    topP: given.topP ?? base?.topP ?? null,
  };
  checkSampling(options);
  return options;
}
