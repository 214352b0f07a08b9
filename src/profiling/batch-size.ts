/** How many sequences are prefilled and decoded side by side, and how many of them fit in memory. */
import { isMemoryError } from '../errors.js';
import { costs, defaultChunkSize } from '../model/costs.js';
import { headDim, type ModelConfig } from '../model/config.js';
import { defaultPageSize } from '../ops/attention/key-value-pages.js';
import { besideWeights } from '../sweep/memory-budget.js';

/**
 * Sequences that `auto` takes at most: more of a small model would run for hours, and a page of their keys would have more elements
 * than 32 bits count.
 */
export const MOST_SEQUENCES = 256;
/** Share of the available memory that `auto` plans with: pools and workspaces take some that no formula knows. */
const PLANNED_SHARE = 0.9;
/** What remains of a batch that ran out of memory. */
const STEP_DOWN = 7 / 8;

/** Tokens of a chunk at least: gated retention works in chunks of so many. */
const SMALLEST_CHUNK = 256;
/**
 * States that are in memory at a time for each of a sequence: its own, those of a fork or of a recorded step, and copies that a step
 * is checked from.
 */
const STATES = 3;

/** Tokens of each sequence prefilled at a time, so that the chunks of all have the size of one sequence's. */
export function chunkOfBatch(config: ModelConfig, batch: number): number {
  const whole = defaultChunkSize(config);
  const shared = 2 ** Math.floor(Math.log2(whole / batch));
  return Math.min(whole, Math.max(SMALLEST_CHUNK, shared));
}

/**
 * Bytes that `batch` sequences of `context` tokens take beside the weights: caches in whole pages, activations and logits.
 * @param isForked whether the cache is continued by forks, which copy its last page: where chunks are sampled
 */
export function bytesOfBatch(
  config: ModelConfig,
  context: number,
  batch: number,
  bytesPerElement: number,
  isForked = false,
): number {
  const heads = { batch, kvHeads: config.kvHeads, headDim: headDim(config) };
  const page = defaultPageSize({ ...heads, maxTokens: context });
  const allocated = Math.ceil(context / page) * page;
  const formulas = costs(config);
  const chunk = chunkOfBatch(config, batch);
  const memory = formulas.inferenceMemory({ context: allocated, chunk, batch, bytesPerElement });
  const copied = isForked ? batch * page * formulas.keyValueBytesPerToken(bytesPerElement) : 0;
  const logits = 2 * batch * config.vocabSize * bytesPerElement;
  return besideWeights(memory) + (STATES - 1) * memory.state + copied + logits;
}

/** The largest batch that fits by formula; 1 where none does, for whoever measures to refuse. */
export function largestBatch(
  config: ModelConfig,
  context: number,
  bytesPerElement: number,
  availableBytes: number,
  isForked = false,
): number {
  for (let batch = MOST_SEQUENCES; batch > 1; batch--) {
    const bytes = bytesOfBatch(config, context, batch, bytesPerElement, isForked);
    if (bytes <= PLANNED_SHARE * availableBytes) return batch;
  }
  return 1;
}

/** A measurement at the largest batch that could be measured. */
export interface Confirmed<Result> {
  readonly batch: number;
  readonly result: Result;
}

/**
 * Measures at `planned` sequences, and at fewer while memory runs out.
 * @param onTooMany told each batch that ran out of memory
 * @throws what `measure` throws, where it is not about memory or one sequence is too many
 */
export async function withinMemory<Result>(
  planned: number,
  measure: (batch: number) => Promise<Result>,
  onTooMany: (batch: number, next: number) => void,
): Promise<Confirmed<Result>> {
  for (let batch = planned; ;) {
    try {
      return { batch, result: await measure(batch) };
    } catch (error) {
      if (batch === 1 || !isMemoryError(error)) throw error;
      const next = Math.max(1, Math.floor(batch * STEP_DOWN));
      onTooMany(batch, next);
      batch = next;
    }
  }
}
