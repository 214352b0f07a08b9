/**
 * What storage in 16 bits implies for results that are small differences of large numbers: a kernel that rounds what it stores, and
 * does everything else exactly, is off by as much.
 */
import type { StorageType } from '../../../src/engines/engine.js';
import * as tf from '../../../src/tf.js';
import { relativeError } from '../relative-error.js';
import { type Input, Inputs, type KernelCase, gradientsOf, tensorOf } from './contract.js';

/** Half the distance of neighbours, relative to the larger: what a rounding changes at most, on average three quarters of it. */
const ROUNDING: Readonly<Partial<Record<StorageType, number>>> = { bfloat16: 2 ** -9, float16: 2 ** -12 };
/** Which numbers are rounded up and which down is drawn so often. */
const DRAWS = 8;

/** Results or gradients of a case on the current backend. */
export type Kind = 'result' | 'gradient';

/** Values of a case's results or gradients. @param weights of the results, whose weighted sum has the gradients */
function valuesOf(
  { compute }: KernelCase,
  kind: Kind,
  inputs: readonly Input[],
  weights: readonly Input[],
): Float32Array[] {
  return tf.tidy(() => {
    const tensors = inputs.map(tensorOf);
    const found = kind === 'result' ? compute(...tensors) : gradientsOf(compute, tensors, weights);
    return found.map((tensor) => tensor.dataSync<'float32'>().slice());
  });
}

/**
 * How much rounding every input and weight once, up or down, changes each result or gradient: the largest change of several draws,
 * relative to the norm. About the sum of the terms' magnitudes over the magnitude of their sum, times a rounding.
 * Computed on the current backend, in float32; zeros for storage of 32 bits.
 */
export function errorsOfRounding(
  item: KernelCase,
  kind: Kind,
  inputs: readonly Input[],
  weights: readonly Input[],
  storage: StorageType,
): number[] {
  const rounding = ROUNDING[storage] ?? 0;
  const exact = valuesOf(item, kind, inputs, weights);
  const random = new Inputs(3);
  const moved = (input: Input): Input => ({
    ...input,
    values:
      input.dtype === 'int32'
        ? input.values
        : Float32Array.from(input.values, (x) => x * (1 + (random.uniform() < 0.5 ? -rounding : rounding))),
  });
  const worst = exact.map(() => 0);
  for (let draw = 0; draw < DRAWS && rounding > 0; draw++) {
    const found = valuesOf(item, kind, inputs.map(moved), weights.map(moved));
    for (const [i, values] of found.entries()) {
      worst[i] = Math.max(worst[i] ?? 0, relativeError(values, exact[i] ?? []));
    }
  }
  return worst;
}

/**
 * The error of a gradient that is a sum over all positions, each term of which is off by a rounding, in no common direction.
 * @param terms the root of the sum of the squares of a gradient's terms, relative to its norm
 */
export const errorOfTerms = (terms: number, storage: StorageType): number => terms * (ROUNDING[storage] ?? 0);
