/** Small models on the stand-in, as they decode. */
import { startOn } from '../../../src/engines/cuda/index.js';
import { cudaRecorder } from '../../../src/engines/cuda/recorder.js';
import { type LanguageModel, type ModelConfig, createConfig, createModel } from '../../../src/model/index.js';
import type { ModelCache } from '../../../src/model/state/state-cache.js';
import { registerRecorder, reportRefusals } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { CUDA, cudaBackend } from './gpu.js';
import { type StandIn, standIn } from './stand-in.js';

export const SHAPE = { dim: 64, layers: 2, hiddenDim: 48, heads: 2, kvHeads: 2, vocabSize: 61 };
export const CONFIGS = {
  'gated retention': createConfig({ ...SHAPE, selfHeads: 2 }),
  'sliding window': createConfig({ ...SHAPE, selfHeads: 2, slidingWindow: 5 }),
  transformer: createConfig({ ...SHAPE, architecture: 'transformer' }),
};
export const NAMES = Object.keys(CONFIGS) as (keyof typeof CONFIGS)[];
export const PROMPT = 9;

export async function started(config: ModelConfig): Promise<{ on: StandIn; model: LanguageModel }> {
  const on = standIn();
  await startOn(on.device);
  return { on, model: createModel(config, { seed: 3 }) };
}

export function prompted(model: LanguageModel, maxTokens: number): ModelCache {
  const cache = model.createCache({ maxTokens });
  const tokens = tf.zeros<tf.Rank.R2>([1, PROMPT], 'int32');
  tf.dispose([model.prefill(tokens, cache), tokens]);
  return cache;
}

export function decode(model: LanguageModel, cache: ModelCache): void {
  tf.tidy(() => void model.decode(tf.tensor1d([7], 'int32'), cache));
}

/** What `work` writes to stderr. */
export function silenced(work: () => void): string[] {
  const lines: string[] = [];
  const write = process.stderr.write.bind(process.stderr);
  process.stderr.write = (text) => lines.push(String(text)) > 0;
  try {
    work();
  } finally {
    process.stderr.write = write;
  }
  return lines;
}

/** Why recorded steps are refused during `work`. */
export function refused(work: () => void): string[] {
  const reasons: string[] = [];
  reportRefusals((reason) => void reasons.push(reason));
  work();
  return reasons;
}

/** Records with kernels that start early. */
export function overlap(): void {
  registerRecorder(CUDA, cudaRecorder(cudaBackend()));
}

export const liveBytes = ({ device }: StandIn): number => device.allocator.memory().liveBytes;
