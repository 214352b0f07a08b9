/** Inference memory against context: computed from the configuration, and measured on the engine. */
import { MODEL_COLUMNS } from '../cli/models.js';
import type { Engine } from '../engines/engine.js';
import { costs } from '../model/costs.js';
import type { ModelConfig } from '../model/config.js';
import type { Column, Row, Schema } from '../results/schema.js';
import * as tf from '../tf.js';
import { randomTokens } from './prompt.js';
import type { RatioColumn } from './ratios.js';
import type { LoadedModel } from './sweep.js';

const bytes = (name: string, description: string): Column => ({
  name,
  kind: 'result',
  description,
  display: 'bytes',
  better: 'lower',
});

export const CONTEXT_COLUMN: Column = {
  name: 'context',
  kind: 'key',
  description: 'tokens in the context',
  display: 'count',
};

export const MEMORY_SCHEMA: Schema = {
  name: 'profile-memory',
  columns: [
    ...MODEL_COLUMNS,
    CONTEXT_COLUMN,
    { name: 'bytes_per_element', kind: 'result', description: 'assumed for weights, caches and activations' },
    { name: 'chunk_tokens', kind: 'result', description: 'tokens prefilled at a time', display: 'count' },
    bytes('weights_bytes', 'computed'),
    bytes('kv_cache_bytes', 'keys and values of the whole context, computed'),
    bytes('kv_bytes_per_token', 'keys and values of one token, computed'),
    bytes('state_bytes', 'recurrent states or windows, which do not grow, computed'),
    bytes('activation_bytes', 'largest activations of a chunk, computed'),
    bytes('total_bytes', 'the sum, computed'),
    bytes(
      'total_concatenated_bytes',
      'with the copy of one layer that the official Transformer makes to append',
    ),
    bytes('measured_weights_bytes', 'tensors of the model'),
    bytes('measured_kv_cache_bytes', 'keys and values as allocated'),
    bytes('measured_state_bytes', 'recurrent states or windows as allocated'),
    bytes('measured_peak_bytes', 'largest sum of all tensors during the prefill'),
    { ...bytes('peak_resident_bytes', 'largest resident memory of the process so far'), kind: 'timing' },
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
  onProgress?: (tokens: number) => void;
}

/** Largest resident memory of this process since it began, in bytes. */
export const peakResidentBytes = (): number => process.resourceUsage().maxRSS * 1024;

/** Prefills a prompt and reads the allocator. */
export async function measureMemory(
  { model, foreignBytes, weightBytes }: LoadedModel,
  engine: Engine,
  { context, chunkSize, seed, onProgress }: MeasureMemoryOptions,
): Promise<Row> {
  const tokens = randomTokens(model.config, context, seed);
  const cache = model.createCache({ maxTokens: context });
  await engine.synchronize();
  engine.resetPeak();
  const logits = model.prefill(tokens, cache, { chunkSize, onProgress });
  await engine.synchronize();
  const { peakBytes } = engine.memory();
  const { keyValue, state } = cache.bytes();
  tf.dispose([logits, tokens]);
  cache.dispose();
  return {
    measured_weights_bytes: weightBytes,
    measured_kv_cache_bytes: keyValue,
    measured_state_bytes: state,
    measured_peak_bytes: peakBytes - foreignBytes,
    peak_resident_bytes: peakResidentBytes(),
  };
}
