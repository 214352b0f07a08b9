import { type TensorInfo, broadcast_util } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import type { MatmulProblem, MatrixType } from '../cublas.js';
import { sizeOf } from '../walk.js';
import { type CudaKernel, input, registerAll } from './register.js';

export interface MatmulOptions {
  transposeA?: boolean;
  transposeB?: boolean;
  /** Added to the product. */
  add?: number;
  /** Several products, of matrices so many elements apart. */
  batch?: Pick<MatmulProblem, 'batch' | 'strideA' | 'strideB' | 'strideD'>;
}

/** Of a product that is no batch. */
export const SINGLE = { batch: 1, strideA: 0, strideB: 0, strideD: 0 } as const;

/** `out[m,n] = op(a)·op(b)` at device addresses, in the backend's storage. */
export function matmul(
  backend: CudaBackend,
  [m, n, k]: readonly [number, number, number],
  a: number,
  b: number,
  out: number,
  { transposeA = false, transposeB = false, add, batch = SINGLE }: MatmulOptions = {},
  outputType: MatrixType = backend.storage,
): void {
  if (m * n * k === 0) return;
  const shape = { m, n, k, transposeA, transposeB, type: backend.storage, outputType };
  backend.matmul({ ...shape, ...batch }, { a, b, d: out, c: add });
}

/** Which matrix of an operand with batch dimensions `shape` the matrix `index` of the broadcast batch `outer` is made of. */
export function sourceBatch(index: number, outer: readonly number[], shape: readonly number[]): number {
  let [rest, stride, source] = [index, 1, 0];
  for (let i = 1; i <= outer.length; i++) {
    const [extent, own] = [outer.at(-i) ?? 1, shape.at(-i) ?? 1];
    if (own !== 1) source += (rest % extent) * stride;
    if (i <= shape.length) stride *= own;
    rest = Math.floor(rest / extent);
  }
  return source;
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
  // Of operands that are kept in float32, so is the product.
  const storage = backend.storageFor(a, b);
  const out = backend.output([...outer, m, n], 'float32', storage);
  if (sizeOf(out.shape) === 0) return out;
  const [batchA, batchB] = [sizeOf(a.shape.slice(0, -2)), sizeOf(b.shape.slice(0, -2))];
  const shape = { m, n, k, transposeA, transposeB, type: storage, outputType: storage };
  const at = (info: TensorInfo): number => backend.pointer(info, storage);
  if ((batchA !== batch && batchA !== 1) || (batchB !== batch && batchB !== 1)) {
    // Batches that repeat in the middle have no one stride: matrix by matrix.
    const bytes = backend.elementBytes('float32', storage);
    for (let i = 0; i < batch; i++) {
      const [ia, ib] = [a, b].map((x) => sourceBatch(i, outer, x.shape.slice(0, -2))) as [number, number];
      backend.matmul(
        { ...shape, ...SINGLE },
        {
          a: at(a) + ia * m * k * bytes,
          b: at(b) + ib * k * n * bytes,
          d: at(out) + i * m * n * bytes,
        },
      );
    }
    return out;
  }
  const strides = { strideA: batchA === 1 ? 0 : m * k, strideB: batchB === 1 ? 0 : k * n, strideD: m * n };
  const addresses = { a: at(a), b: at(b), d: at(out) };
  backend.matmul({ ...shape, batch, ...strides }, addresses);
  return out;
};

export function registerMatmul(): void {
  registerAll({ BatchMatMul: batchMatMul });
}
