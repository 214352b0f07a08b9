import * as tf from '../tf.js';
import type { LanguageModel } from './language-model.js';

export interface ValueAndGradients {
  readonly value: tf.Scalar;
  /** By official parameter name, in the order of `model.parameters`. */
  readonly gradients: ReadonlyMap<string, tf.Tensor>;
}

/** A scalar computed from a model, and its gradient with respect to every parameter. The caller disposes both. */
export function valueAndGradients(model: LanguageModel, compute: () => tf.Scalar): ValueAndGradients {
  const names = [...model.parameters.keys()];
  const variables = [...model.parameters.values()];
  const { value, grads } = tf.engine().gradients(compute, variables);
  return {
    value: value,
    gradients: new Map(names.map((name, i) => [name, grads[i] as tf.Tensor])),
  };
}
