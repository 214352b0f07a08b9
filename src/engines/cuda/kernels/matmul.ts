import { type TensorInfo, broadcast_util } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import type { MatrixType } from '../cublas.js';
import { sizeOf } from '../walk.js';
import { type CudaKernel, input, registerAll } from './register.js';

export interface MatmulOptions {
  transposeA?: boolean;
  transposeB?: boolean;
  /** Added to the product. */
  add?: number;
}

/** `out[m,n] = op(a)·op(b)` at device addresses, in the backend's storage. */
export function matmul(
  backend: CudaBackend,
  [m, n, k]: readonly [number, number, number],
  a: number,
  b: number,
  out: number,
  { transposeA = false, transposeB = false, add }: MatmulOptions = {},
  outputType: MatrixType = backend.storage,
): void {
  if (m * n * k === 0) return;
  const shape = { m, n, k, transposeA, transposeB, type: backend.storage, outputType };
  const single = { batch: 1, strideA: 0, strideB: 0, strideD: 0 };
  backend.matmul({ ...shape, ...single }, { a, b, d: out, c: add });
}

const batchMatMul: CudaKernel = (inputs, attrs, backend) => {
  const [a, b] = [input(inputs, 'a'), input(inputs, 'b')];
  const [transposeA, transposeB] = [attrs.transposeA === true, attrs.transposeB === true];
  const lastTwo = ({ shape }: TensorInfo): [number, number] => [shape.at(-2) ?? 1, shape.at(-1) ?? 1];
  const [rowsA, columnsA] = lastTwo(a);
  const [rowsB, columnsB] = lastTwo(b);
  const [m, k] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA];
  const n = transposeB ? rowsB : columnsB;
  const outer = broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const batch = sizeOf(outer);
  const out = backend.output([...outer, m, n]);
  if (sizeOf(out.shape) === 0) return out;
  const [batchA, batchB] = [sizeOf(a.shape.slice(0, -2)), sizeOf(b.shape.slice(0, -2))];
  if ((batchA !== batch && batchA !== 1) || (batchB !== batch && batchB !== 1)) {
    throw new Error('the cuda engine multiplies batches that are equal or 1');
  }
  const shape = { m, n, k, transposeA, transposeB, type: backend.storage, outputType: backend.storage };
  const strides = { strideA: batchA === 1 ? 0 : m * k, strideB: batchB === 1 ? 0 : k * n, strideD: m * n };
  const addresses = { a: backend.pointer(a), b: backend.pointer(b), d: backend.pointer(out) };
  backend.matmul({ ...shape, batch, ...strides }, addresses);
  return out;
};

export function registerMatmul(): void {
  registerAll({ BatchMatMul: batchMatMul });
}
