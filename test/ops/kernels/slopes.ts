/** Gradients against central differences of a float64 reference. */
import * as assert from 'uvu/assert';
import type { Array64 } from '../reference.js';
import type { Input } from './contract.js';

/** Coordinates of every input whose derivative is compared. */
const COORDINATES = 6;
const STEP = 1e-5;
const TOLERANCE = 1e-4;

/** @param weights of all results in the objective whose gradients are compared */
export function checkSlopes(
  name: string,
  inputs: readonly Input[],
  weights: readonly Input[],
  reference: (...inputs: Array64[]) => Array64[],
  gradients: readonly { readonly values: ArrayLike<number> }[],
): void {
  const arrays = inputs.map(({ shape, values }): Array64 => ({ shape, data: Float64Array.from(values) }));
  const objective = (): number =>
    reference(...arrays).reduce((sum, { data }, i) => {
      const { values } = weights[i] as Input;
      return data.reduce((inner, value, j) => inner + value * (values[j] ?? NaN), sum);
    }, 0);
  for (const [input, { values }] of gradients.entries()) {
    const { data } = arrays[input] as Array64;
    const scale = Array.from(values).reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-2);
    for (let n = 0; n < Math.min(COORDINATES, data.length); n++) {
      // Spread over the whole, the first and the last included.
      const at = Math.round((n * (data.length - 1)) / Math.max(1, Math.min(COORDINATES, data.length) - 1));
      const error = Math.abs((values[at] ?? NaN) - slopeAt(data, at, objective));
      assert.ok(
        error <= TOLERANCE * scale,
        `${name}, gradient ${input} at ${at}: off by ${error}, scale ${scale}`,
      );
    }
  }
}

function slopeAt(data: Float64Array, at: number, objective: () => number): number {
  const value = data[at] ?? NaN;
  data[at] = value + STEP;
  const up = objective();
  data[at] = value - STEP;
  const down = objective();
  data[at] = value;
  return (up - down) / (2 * STEP);
}
