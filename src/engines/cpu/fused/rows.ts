import type { TensorInfo } from '@tensorflow/tfjs-core';

/** A tensor as a matrix whose rows are its last dimension: [rows, width]. */
export function rowsOf({ shape }: TensorInfo): [number, number] {
  const width = shape.at(-1) ?? 1;
  return [shape.slice(0, -1).reduce((product, size) => product * size, 1), width];
}

/** The last element of a shape replaced. */
export function withWidth({ shape }: TensorInfo, width: number): number[] {
  return [...shape.slice(0, -1), width];
}
