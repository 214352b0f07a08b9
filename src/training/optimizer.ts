import { adamW } from '../ops/index.js';
import * as tf from '../tf.js';

export interface OptimizerOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled decay of matrices; norms (vectors) do not decay. */
  readonly weightDecay: number;
  /** Largest L2 norm of all gradients together; 0: no clipping. */
  readonly clip: number;
}

interface Moments {
  readonly first: tf.Variable;
  readonly second: tf.Variable;
}

/** AdamW over named parameters, with clipping of the global gradient norm. */
export class Optimizer {
  private readonly moments = new Map<string, Moments>();

  constructor(
    private readonly parameters: ReadonlyMap<string, tf.Variable>,
    private readonly options: OptimizerOptions,
  ) {
    for (const [name, { shape }] of parameters) {
      const zeros = (): tf.Variable => tf.tidy(() => tf.variable(tf.zeros(shape), false));
      this.moments.set(name, { first: zeros(), second: zeros() });
    }
  }

  /**
   * One update; `gradients` has one tensor per parameter and is not disposed.
   * @param step counted from 1 (for the bias correction)
   * @param norm of all gradients, from `globalNorm`
   */
  apply(gradients: ReadonlyMap<string, tf.Tensor>, step: number, learningRate: number, norm: number): void {
    const { beta1, beta2, epsilon, weightDecay, clip } = this.options;
    const factor = clip > 0 && norm > clip ? clip / norm : 1;
    const scale = factor === 1 ? undefined : tf.scalar(factor);
    for (const [name, parameter] of this.parameters) {
      const [gradient, moments] = [gradients.get(name), this.moments.get(name)];
      if (gradient === undefined || moments === undefined) throw new Error(`no gradient of ${name}`);
      const decay = parameter.rank > 1 ? weightDecay : 0;
      const attributes = { learningRate, beta1, beta2, epsilon, weightDecay: decay, step, scale };
      adamW(parameter, gradient, moments.first, moments.second, attributes);
    }
    scale?.dispose();
  }

  /** The moments as named tensors: `first.NAME` and `second.NAME`. */
  state(): Map<string, tf.Variable> {
    const state = new Map<string, tf.Variable>();
    for (const [name, { first, second }] of this.moments) {
      state.set(`first.${name}`, first);
      state.set(`second.${name}`, second);
    }
    return state;
  }

  dispose(): void {
    for (const { first, second } of this.moments.values()) {
      first.dispose();
      second.dispose();
    }
  }
}

/** L2 norm of all gradients together. */
export function globalNorm(gradients: ReadonlyMap<string, tf.Tensor>): number {
  const squares = tf.tidy(() => {
    const sums = [...gradients.values()].map((gradient) => tf.sum(tf.square(gradient)));
    return tf.stack(sums);
  });
  // Summed in float64, so that the number of tensors costs no precision.
  const norm = Math.sqrt(Array.from(squares.dataSync()).reduce((sum, value) => sum + value, 0));
  squares.dispose();
  return norm;
}
