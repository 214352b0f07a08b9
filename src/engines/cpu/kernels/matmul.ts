/** Matrix products by ONNX Runtime's threaded sgemm. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CpuBackend, Floats } from '../backend.js';
import { float, microsoftNode } from '../onnx.js';
import { input, isFloat, type KernelCall, sizeOf } from './call.js';
import { broadcastShape } from './shapes.js';

export interface Product {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** The result is multiplied by this. */
  readonly alpha?: number;
}

/** Multiply-adds below which tfjs' own loop beats a native call. */
const WORTH_A_PRODUCT = 8192;

/**
 * `y = alpha · op(a) op(b)` for tensors viewed as `aDims`, `bDims` and `yDims`: equal ranks, leading dimensions
 * broadcast.
 */
function runMatmul(
  backend: CpuBackend,
  [a, aDims]: readonly [TensorInfo, readonly number[]],
  [b, bDims]: readonly [TensorInfo, readonly number[]],
  [y, yDims]: readonly [TensorInfo, readonly number[]],
  { transposeA = false, transposeB = false, alpha = 1 }: Product = {},
): void {
  const rank = aDims.length;
  if (backend.native && alpha === 1 && isMatrix(aDims) && isMatrix(bDims)) {
    const [rows, columns] = yDims.slice(-2) as [number, number];
    const inner = aDims.at(transposeA ? -2 : -1) ?? 1;
    const [left, right, out] = [a, b, y].map((x) => backend.floats(x)) as [Floats, Floats, Floats];
    const flags = [Number(transposeA), Number(transposeB)] as const;
    backend.native.product(left, right, null, out, rows, columns, inner, ...flags);
    return;
  }
  const attributes = { transA: Number(transposeA), transB: Number(transposeB), alpha: float(alpha) };
  const graph = () => ({
    inputs: [
      { name: 'a', rank },
      { name: 'b', rank },
    ],
    outputs: [{ name: 'y', rank }],
    nodes: [microsoftNode('FusedMatMul', ['a', 'b'], ['y'], attributes)],
  });
  const key = `MatMul/${rank}/${attributes.transA}${attributes.transB}/${alpha}`;
  backend.run(
    key,
    graph,
    { a: backend.onnx(a, aDims), b: backend.onnx(b, bDims) },
    { y: backend.onnx(y, yDims) },
  );
}

export function batchMatMul(call: KernelCall): TensorInfo | undefined {
  const [a, b] = [input(call, 'a'), input(call, 'b')];
  const { transposeA, transposeB } = call.attrs as { transposeA: boolean; transposeB: boolean };
  const [rows, inner] = matrix(a, transposeA);
  const [, columns] = matrix(b, transposeB);
  const batch = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const work = sizeOf(batch) * rows * inner * columns;
  if (!isFloat(a, b) || work < WORTH_A_PRODUCT) return undefined;
  const y = call.backend.output([...batch, rows, columns]);
  const product = { transposeA, transposeB };
  if (!transposeA && sizeOf(b.shape.slice(0, -2)) === 1) {
    // One matrix for the whole batch: a single tall product.
    const tall = sizeOf(batch) * rows;
    runMatmul(call.backend, [a, [tall, inner]], [b, b.shape.slice(-2)], [y, [tall, columns]], product);
  } else {
    const rank = Math.max(a.shape.length, b.shape.length);
    const align = (shape: number[]) => [...Array<number>(rank - shape.length).fill(1), ...shape];
    runMatmul(call.backend, [a, align(a.shape)], [b, align(b.shape)], [y, y.shape], product);
  }
  return y;
}

/** Whether all dimensions before the last two are 1. */
function isMatrix(dims: readonly number[]): boolean {
  return dims.slice(0, -2).every((size) => size === 1);
}

/** Rows and columns of the last two dimensions, after transposition. */
function matrix({ shape }: TensorInfo, transpose: boolean): [number, number] {
  const [rows, columns] = [shape.at(-2) ?? 1, shape.at(-1) ?? 1];
  return transpose ? [columns, rows] : [rows, columns];
}
