/** Inference memory against context: computed from the configuration, and measured on the engine. */
import type { Engine } from '../engines/engine.js';
import { costs } from '../model/costs.js';
import type { ModelConfig } from '../model/config.js';
import type { CacheType, ComputeType } from '../ops/index.js';
import type { ModelKey } from '../sweep/model-key.js';
import { randomTokens } from './prompt.js';
import { peakResidentBytes } from '../sweep/memory-budget.js';
import { fillAndPrefill } from './filled-cache.js';
import type { OpenModel } from '../sweep/sweep.js';

export interface MemoryAssumptions {
  bytesPerElement: number;
  /** Tokens prefilled at a time. */
  chunkSize: number;
  /** How keys and values are stored; null: as the rest. */
  cacheType?: CacheType | null;
  /** How weights that suit it are stored; null: as the rest. */
  weightType?: ComputeType | null;
  /** Count the logits of a whole chunk where the official code computes them (see `MemoryQuestion`). */
  chunkLogits?: boolean;
  /** Ranks that divide each sequence: the answer is of one device. Default 1. */
  ranks?: number;
}

export interface MemoryKey extends ModelKey {
  /** Tokens in the context. */
  readonly context: number;
}

/** Bytes that follow from the configuration, batch 1. */
export interface ComputedMemory {
  readonly bytesPerElement: number;
  /** Tokens prefilled at a time. */
  readonly chunkTokens: number;
  readonly weightsBytes: number;
  /** Keys and values of the whole context. */
  readonly kvCacheBytes: number;
  readonly kvBytesPerToken: number;
  /** Recurrent states or windows, which do not grow. */
  readonly stateBytes: number;
  /** Largest activations of a chunk. */
  readonly activationBytes: number;
  readonly totalBytes: number;
  /** With the copy of one layer that the official Transformer makes to append. */
  readonly totalConcatenatedBytes: number;
}

/** Bytes read off the engine while it prefilled. */
export interface MeasuredMemory {
  readonly measuredWeightsBytes: number;
  readonly measuredKvCacheBytes: number;
  readonly measuredStateBytes: number;
  /** Largest sum of all tensors during the prefill. */
  readonly measuredPeakBytes: number;
  /** Tokens of the context that were computed; the others are random keys and values. */
  readonly prefilledTokens: number;
  /** Taken from the device at its peak, cached memory included; null where the engine has no device. */
  readonly reservedPeakBytes: number | null;
  /** In use on the device by its driver; null where the engine has no device. */
  readonly deviceUsedBytes: number | null;
  /** Largest resident memory of the process so far. */
  readonly peakResidentBytes: number;
}

export type MemoryFigures = ComputedMemory & {
  /** Null where the context was not measured. */
  readonly [Name in keyof MeasuredMemory]: number | null;
};

/** The measured figures of a context that was not measured. */
export const NOT_MEASURED: { readonly [Name in keyof MeasuredMemory]: null } = {
  measuredWeightsBytes: null,
  measuredKvCacheBytes: null,
  measuredStateBytes: null,
  measuredPeakBytes: null,
  prefilledTokens: null,
  reservedPeakBytes: null,
  deviceUsedBytes: null,
  peakResidentBytes: null,
};

/** The computed figures, batch 1. */
export function computedMemory(
  config: ModelConfig,
  context: number,
  { bytesPerElement, chunkSize, cacheType = null, weightType = null, chunkLogits, ranks }: MemoryAssumptions,
): ComputedMemory {
  const formulas = costs(config);
  const stored = { bytesPerElement, cacheType, weightType };
  const question = { context, chunk: chunkSize, ...stored, chunkLogits, ranks };
  const memory = formulas.inferenceMemory(question);
  return {
    bytesPerElement,
    chunkTokens: chunkSize,
    weightsBytes: memory.weights,
    kvCacheBytes: memory.keyValue,
    kvBytesPerToken: formulas.keyValueBytesPerToken(bytesPerElement, cacheType),
    stateBytes: memory.state,
    activationBytes: memory.activations,
    totalBytes: memory.total,
    totalConcatenatedBytes: formulas.inferenceMemory({ ...question, concatenatedCache: true }).total,
  };
}

export interface MeasureMemoryOptions {
  context: number;
  chunkSize: number;
  seed: number;
  /** Compute only the last chunk, after random keys and values. */
  fill: boolean;
  onProgress?: (tokens: number) => void;
}

/** Prefills a prompt and reads the allocator. */
export async function measureMemory(
  { model, foreignBytes, weightBytes }: OpenModel,
  engine: Engine,
  { context, chunkSize, seed, fill, onProgress }: MeasureMemoryOptions,
): Promise<MeasuredMemory> {
  const tokens = randomTokens(model.config, context, seed);
  const cache = model.createCache({ maxTokens: context });
  await engine.synchronize();
  // What earlier cells left cached is not this one's.
  engine.deviceMemory?.trim();
  engine.resetPeak();
  let prefilled = context;
  if (fill) prefilled = fillAndPrefill(model, cache, tokens, { length: context, chunkSize });
  else model.prefill(tokens, cache, { chunkSize, onProgress }).dispose();
  await engine.synchronize();
  const { peakBytes, liveBytes } = engine.memory();
  // Freed tensors stay reserved, so the driver's figure is still that of the peak.
  const device = engine.deviceMemory?.read();
  const keyValueBytes = cache.bytes().keyValue;
  cache.dispose();
  const cacheBytes = liveBytes - engine.memory().liveBytes;
  tokens.dispose();
  return {
    measuredWeightsBytes: weightBytes,
    measuredKvCacheBytes: keyValueBytes,
    measuredStateBytes: cacheBytes - keyValueBytes,
    measuredPeakBytes: peakBytes - foreignBytes,
    prefilledTokens: prefilled,
    reservedPeakBytes: device?.reservedPeakBytes ?? null,
    deviceUsedBytes: device?.usedBytes ?? null,
    peakResidentBytes: peakResidentBytes(),
  };
}
