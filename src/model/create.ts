import type { ModelConfig } from './config.js';
import type { InitialValues } from './initial-values.js';
import type { LanguageModel } from './language-model.js';
import { Model } from './model.js';
import { Weights, type InitialWeights } from './weights.js';

export interface CreateOptions {
  /** Equal seeds give equal weights on every engine. */
  readonly seed?: number | string;
  /** Default `random`. */
  readonly weights?: InitialWeights;
  /** The recipe of initial values; default `official`. */
  readonly initialValues?: InitialValues;
}

/** A model on the current engine. */
export function createModel(config: ModelConfig, options: CreateOptions = {}): LanguageModel {
  const { seed = 0, weights = 'random', initialValues = 'official' } = options;
  return new Model(config, new Weights(config, { seed, weights, initialValues }));
}
