import type { GradientSink } from '../model/index.js';
import { type AdamWUpdate, adamWAll, adamWRule, clipScale } from '../ops/index.js';
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

/** A moment by name, of the shape it must have; @throws RunError for another */
export type MomentReader = (name: string, shape: readonly number[]) => tf.Tensor;

/** What the loop needs of an optimizer, on one rank or several. */
export interface TrainingOptimizer {
  /**
   * Where gradients can be given one by one, before `apply`, which then needs no others; disposes of them. It may wait for other
   * ranks: none may wait for this one meanwhile.
   */
  readonly take?: GradientSink;
  /**
   * One update; `gradients` has one tensor per parameter, but for those that `take` was given, and is not disposed. On several ranks they are this rank's share, to be
   * added up.
   * @param step counted from 1 (for the bias correction)
   * @returns the L2 norm of all gradients together, before clipping; where it is not a finite number, nothing was changed
   */
  apply(gradients: ReadonlyMap<string, tf.Tensor>, step: number, learningRate: number): number;
  /** The moments, `first.NAME` and `second.NAME`, for the caller to dispose. Every rank has to call. */
  state(): Map<string, tf.Tensor>;
  /** Takes moments by the same names, after the parameters were loaded. */
  restore(read: MomentReader): void;
  dispose(): void;
}

/** AdamW over named parameters, with clipping of the global gradient norm. */
export class Optimizer implements TrainingOptimizer {
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

  apply(gradients: ReadonlyMap<string, tf.Tensor>, step: number, learningRate: number): number {
    const norm = this.update(gradients, step, learningRate);
    if (typeof norm === 'number') return norm;
    const length = norm.dataSync()[0] ?? NaN;
    norm.dispose();
    return length;
  }

  /** The same, but the norm may not have been read yet. @param rule that of the step, to be read in recorded updates */
  update(
    gradients: ReadonlyMap<string, tf.Tensor>,
    step: number,
    learningRate: number,
    rule?: tf.Tensor1D,
  ): number | tf.Scalar {
    const { beta1, beta2, epsilon, clip } = this.options;
    const updates = this.updates(gradients);
    const { norm, scale } = clipScale(
      updates.map(({ gradient }) => gradient),
      clip,
    );
    if (typeof norm === 'number' && !Number.isFinite(norm)) return norm;
    adamWAll(updates, { learningRate, beta1, beta2, epsilon, step, scale }, rule);
    scale?.dispose();
    return norm;
  }

  /** The rule of AdamW at a step. */
  ruleOf(step: number, learningRate: number): Float32Array {
    const { beta1, beta2, epsilon } = this.options;
    return adamWRule({ learningRate, beta1, beta2, epsilon, step });
  }

  private updates(gradients: ReadonlyMap<string, tf.Tensor>): AdamWUpdate[] {
    return [...this.parameters].map(([name, parameter]) => {
      const [gradient, moments] = [gradients.get(name), this.moments.get(name)];
      if (gradient === undefined || moments === undefined) throw new Error(`no gradient of ${name}`);
      const weightDecay = parameter.rank > 1 ? this.options.weightDecay : 0;
      return { parameter, gradient, firstMoment: moments.first, secondMoment: moments.second, weightDecay };
    });
  }

  state(): Map<string, tf.Tensor> {
    return new Map([...this.named()].map(([name, variable]) => [name, tf.clone(variable)]));
  }

  restore(read: MomentReader): void {
    for (const [name, variable] of this.named()) {
      tf.tidy(() => {
        variable.assign(read(name, variable.shape));
      });
    }
  }

  private *named(): Generator<[name: string, moment: tf.Variable]> {
    for (const [name, { first, second }] of this.moments) {
      yield [`first.${name}`, first];
      yield [`second.${name}`, second];
    }
  }

  dispose(): void {
    for (const { first, second } of this.moments.values()) {
      first.dispose();
      second.dispose();
    }
  }
}
