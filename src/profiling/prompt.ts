import { Random } from '../random.js';
import type { ModelConfig } from '../model/config.js';
import * as tf from '../tf.js';

/** Uniformly drawn tokens, int32 [batch, count]. */
export function randomTokens(config: ModelConfig, count: number, seed: number, batch = 1): tf.Tensor2D {
  const random = new Random(seed).fork('prompt');
  const ids = Int32Array.from({ length: batch * count }, () => random.below(config.vocabSize));
  return tf.tensor2d(ids, [batch, count], 'int32');
}
