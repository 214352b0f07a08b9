/** Products of one row with small matrices, as a decoding step has them: see `wasm/row-product.ts`. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CpuBackend, Floats } from '../backend.js';
import type { SharedArena } from '../wasm/arena.js';
import { INNER_STEP, OUTER_STEP, type RowProduct, rowProduct } from '../wasm/row-product.js';

/** Bytes of a matrix that one thread reads in less time than it takes several to begin. */
const MOST_BYTES = 2 ** 20;

const products = new WeakMap<SharedArena, RowProduct>();

function productOf(arena: SharedArena): RowProduct {
  const product = products.get(arena) ?? rowProduct(arena);
  products.set(arena, product);
  return product;
}

/**
 * y = x weightᵀ (+ residual) for each of some weights [out, in] and outputs. The weights move to shared memory at the first call.
 * @returns false, and does nothing, where a shape is not that of small matrices or there is no room
 */
export function multiplyRow(
  backend: CpuBackend,
  x: TensorInfo,
  weights: readonly TensorInfo[],
  outputs: readonly TensorInfo[],
  residual?: TensorInfo,
): boolean {
  if (!weights.every((weight) => isSmall(weight))) return false;
  const arena = backend.attentionThreads?.arena;
  if (!arena) return false;
  for (const weight of weights) backend.share(weight);
  const arrays = weights.map((weight) => backend.floats(weight));
  if (!arrays.every((array) => arena.owns(array))) return false;
  const largest = Math.max(...outputs.map(({ shape }) => shape.at(-1) ?? 1));
  const row = backend.floats(x);
  const bytes = row.byteLength + 4 * largest;
  const at = arena.take(bytes);
  if (at === undefined) return false;
  const { buffer } = arena.memory;
  new Float32Array(buffer, at, row.length).set(row);
  const target = new Float32Array(buffer, at + row.byteLength, largest);
  const product = productOf(arena);
  for (const [i, output] of outputs.entries()) {
    const values: Floats = backend.floats(output);
    const own = target.subarray(0, values.length);
    if (residual) own.set(backend.floats(residual));
    else own.fill(0);
    product((arrays[i] as Floats).byteOffset, at, own.byteOffset, row.byteLength, own.byteLength);
    values.set(own);
  }
  arena.give(at, bytes);
  return true;
}

function isSmall({ shape, dtype }: TensorInfo): boolean {
  const [outer, inner] = shape as [number, number];
  return (
    dtype === 'float32' &&
    outer % OUTER_STEP === 0 &&
    inner % INNER_STEP === 0 &&
    4 * outer * inner <= MOST_BYTES
  );
}
