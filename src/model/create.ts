import type { Communicator } from '../distributed/communicator.js';
import { type ComputeType, weightDefaults } from '../ops/index.js';
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
  /**
   * In what products with the weights of layers are computed: `float8` rounds both factors, and allows for no gradients; null: as
   * tensors are stored. Default: what the engine was started with.
   */
  readonly compute?: ComputeType | null;
  /**
   * Ranks over which sequences are divided; default: none. Each makes the same model. `extend`, `prefill` and `decode` take the
   * same tokens on every rank and give the same logits; `forward`, `loss` and `objective` take a rank's part of the sequences,
   * the columns that `stretches` names, and give what belongs to them.
   */
  readonly ranks?: Communicator;
}

/** A model on the current engine. */
export function createModel(config: ModelConfig, options: CreateOptions = {}): LanguageModel {
  const { seed = 0, weights = 'random', initialValues = 'official', ranks } = options;
  const { compute = weightDefaults.compute } = options;
  return new Model(config, new Weights(config, { seed, weights, initialValues, compute }), ranks);
}
