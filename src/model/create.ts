import type { ModelConfig } from './config.js';
import type { LanguageModel } from './language-model.js';
import { Transformer } from './transformer.js';
import type { InitialWeights } from './weights.js';
import { Yoco } from './yoco.js';

export interface CreateOptions {
  /** Equal seeds give equal weights on every engine. */
  readonly seed?: number | string;
  /** Default `random`, the official initialisation. */
  readonly weights?: InitialWeights;
}

/** A model on the current engine. */
export function createModel(config: ModelConfig, options: CreateOptions = {}): LanguageModel {
  const { seed = 0, weights = 'random' } = options;
  return config.architecture === 'yoco'
    ? new Yoco(config, seed, weights)
    : new Transformer(config, seed, weights);
}
