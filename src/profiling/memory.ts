/** Inference memory against context: computed from the configuration, and measured on the engine. */
import type { Engine } from '../engines/engine.js';
import { costs } from '../model/costs.js';
import type { ModelConfig } from '../model/config.js';
import type { Row } from '../results/schema.js';
import { randomTokens } from './prompt.js';
import { fillAndPrefill } from './filled-cache.js';
import { ELEMENT_BYTES } from '../sweep/memory-budget.js';
import type { LoadedModel } from '../sweep/sweep.js';

export interface MemoryAssumptions {
  bytesPerElement: number;
  /** Tokens prefilled at a time. */
  chunkSize: number;
}

/** The computed columns, batch 1. */
export function computedMemory(
  config: ModelConfig,
  context: number,
  { bytesPerElement, chunkSize }: MemoryAssumptions,
): Row {
  const formulas = costs(config);
  const question = { context, chunk: chunkSize, bytesPerElement };
  const memory = formulas.inferenceMemory(question);
  return {
    bytes_per_element: bytesPerElement,
    chunk_tokens: chunkSize,
    weights_bytes: memory.weights,
    kv_cache_bytes: memory.keyValue,
    kv_bytes_per_token: formulas.keyValueBytesPerToken(bytesPerElement),
    state_bytes: memory.state,
    activation_bytes: memory.activations,
    total_bytes: memory.total,
    total_concatenated_bytes: formulas.inferenceMemory({ ...question, concatenatedCache: true }).total,
  };
}

export interface MeasureMemoryOptions {
  context: number;
  chunkSize: number;
  seed: number;
  /** Compute only the last chunk, behind random keys and values. */
  fill: boolean;
  onProgress?: (tokens: number) => void;
}

/** Largest resident memory of this process since it began, in bytes. */
export const peakResidentBytes = (): number => process.resourceUsage().maxRSS * 1024;

/** Prefills a prompt and reads the allocator. */
export async function measureMemory(
  { model, foreignBytes, weightBytes }: LoadedModel,
  engine: Engine,
  { context, chunkSize, seed, fill, onProgress }: MeasureMemoryOptions,
): Promise<Row> {
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
  // Pages are in the engine's storage, states may be in float32 whatever it is: what else the cache gives back.
  const keyValueBytes = (cache.bytes().keyValue * ELEMENT_BYTES[engine.storage]) / ELEMENT_BYTES.float32;
  cache.dispose();
  const cacheBytes = liveBytes - engine.memory().liveBytes;
  tokens.dispose();
  return {
    measured_weights_bytes: weightBytes,
    measured_kv_cache_bytes: keyValueBytes,
    measured_state_bytes: cacheBytes - keyValueBytes,
    measured_peak_bytes: peakBytes - foreignBytes,
    prefilled_tokens: prefilled,
    reserved_peak_bytes: device?.reservedPeakBytes ?? null,
    device_used_bytes: device?.usedBytes ?? null,
    peak_resident_bytes: peakResidentBytes(),
  };
}
