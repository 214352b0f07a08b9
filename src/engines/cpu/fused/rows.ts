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

/**
 * Elements per run of a graph with several steps: 1 MiB per tensor. What lies between the steps then stays in the cache, and
 * ONNX Runtime's memory for it is small enough to be used again, where a fresh large piece costs a page fault every
 * 4 KiB (a SwiGLU gradient over 6 M elements: 97 ms of processor time whole, 21 ms in tiles).
 */
const TILE = 2 ** 18;

/** Calls `body` with the bounds of consecutive tiles of `count` rows of `width` elements. */
export function inTiles(count: number, width: number, body: (from: number, to: number) => void): void {
  const rows = Math.max(1, Math.floor(TILE / width));
  for (let from = 0; from < count; from += rows) body(from, Math.min(count, from + rows));
}
