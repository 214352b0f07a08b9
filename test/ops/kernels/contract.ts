/** Kernel cases: what every engine must compute, declared once in `*.cases.ts` and run by one `ENGINE.test.ts` each. */
import type { StorageType } from '../../../src/engines/engine.js';
import * as tf from '../../../src/tf.js';
import type { Array64 } from '../reference.js';

export interface Input {
  readonly shape: number[];
  readonly values: Float32Array | Int32Array;
  readonly dtype: 'float32' | 'int32';
}

export type Computation = (...inputs: tf.Tensor[]) => tf.Tensor[];

export interface KernelCase {
  readonly name: string;
  /** The same for every engine. */
  readonly inputs: (make: Inputs) => Input[];
  readonly compute: Computation;
  /** Compare also the gradients of a random weighting of all results with respect to every float input. */
  readonly gradients?: boolean;
  /** The results in float64, from inputs as the engine gets them. Absent: what the plain backend gives. */
  readonly reference?: (...inputs: Array64[]) => Array64[];
  /** A gradient is a sum of terms that cancel: errors are held against values of 1. */
  readonly cancels?: boolean;
  /** Hold every value to its own magnitude, instead of results and their rows to their norms. */
  readonly elementwise?: boolean;
  /** Results that must agree to the last bit. */
  readonly exact?: boolean;
  /** Where the usual tolerance is too strict. */
  readonly tolerance?: Partial<Record<StorageType, number>>;
  /** Gradients that are sums over all positions of terms that cancel. */
  readonly sums?: {
    /** The numbers of their inputs. */
    readonly inputs: readonly number[];
    /**
     * Of each of them the root of the sum of the squares of all terms, relative to the norm of the gradient, on the current backend.
     * @param weights of the results
     */
    readonly terms: (inputs: readonly Input[], weights: readonly Input[]) => number[];
  };
  /** Only for a GPU: the plain backend takes long. */
  readonly large?: boolean;
  /** Engines that do not run the case, and why. */
  readonly except?: Readonly<Partial<Record<EngineUnderTest, string>>>;
}

export type EngineUnderTest = 'plain' | 'cpu' | 'webgpu' | 'cuda' | 'tensorflow';

/** Deterministic inputs from a linear congruential generator. */
export class Inputs {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** From 0 to 1. */
  uniform(): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return this.state / 2 ** 32;
  }

  /** About normal (a sum of uniforms), with mean `shift` and standard deviation `scale`. */
  normal(shape: readonly number[], scale = 1, shift = 0): Input {
    const bell = (): number =>
      (this.uniform() + this.uniform() + this.uniform() + this.uniform() - 2) * Math.sqrt(3);
    return floats(shape, () => bell() * scale + shift);
  }

  /** Integers from 0 on. */
  integers(shape: readonly number[], below: number): Input {
    const values = Int32Array.from({ length: tf.util.sizeFromShape([...shape]) }, () =>
      Math.floor(this.uniform() * below),
    );
    return { shape: [...shape], values, dtype: 'int32' };
  }
}

/** Values by index, rounded to what bfloat16 represents, so that every storage starts from the same numbers. */
export function floats(shape: readonly number[], value: (index: number) => number): Input {
  const values = new Float32Array(tf.util.sizeFromShape([...shape]));
  const bits = new Uint32Array(values.buffer);
  for (let i = 0; i < values.length; i++) {
    values[i] = value(i);
    if (Number.isFinite(values[i])) bits[i] = ((bits[i] ?? 0) + 0x8000) & 0xffff0000;
  }
  return { shape: [...shape], values, dtype: 'float32' };
}

/** A copy of the values: a kernel that works in place leaves the input as it is. */
export function tensorOf({ values, shape, dtype }: Input): tf.Tensor {
  return tf.tensor(values.slice(), shape, dtype);
}

/** Gradients of the weighted sum of what `compute` returns, with respect to its float inputs. */
export function gradientsOf(
  compute: Computation,
  inputs: tf.Tensor[],
  weights: readonly Input[],
): tf.Tensor[] {
  const isFloat = inputs.map(({ dtype }) => dtype === 'float32');
  const objective = (...floats: tf.Tensor[]): tf.Scalar => {
    const rest = [...floats];
    const all = inputs.map((input, i) => (isFloat[i] ? (rest.shift() as tf.Tensor) : input));
    const terms = compute(...all).map((y, i) => tf.sum(tf.mul(y, tensorOf(weights[i] as Input))));
    return tf.addN(terms) as tf.Scalar;
  };
  return tf.grads(objective)(inputs.filter((_, i) => isFloat[i]));
}
