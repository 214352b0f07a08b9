/** Products with weights kept as [out, in] by the kernels in C; `ops/linear`. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { rowsOf, withWidth } from '../fused/rows.js';
import type { Native } from './library.js';

/** So many rows at most are multiplied one after the other with the weights where they lie. */
const FEW_ROWS = 4;

/** y = x weightᵀ (+ residual), or x weight where `transposed`. */
function multiply(
  native: Native,
  backend: CpuBackend,
  [x, weight, residual]: readonly [TensorInfo, TensorInfo, TensorInfo?],
  transposed: boolean,
): TensorInfo {
  const [rows, inner] = rowsOf(x);
  const width = weight.shape[transposed ? 1 : 0] ?? 1;
  const y = backend.output(withWidth(x, width));
  const before = residual ? backend.floats(residual) : null;
  const [left, right, out] = [x, weight, y].map((tensor) => backend.floats(tensor)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  backend.launch(() => {
    if (rows <= FEW_ROWS && !transposed) native.few_rows(left, right, before, out, rows, width, inner);
    else native.product(left, right, before, out, rows, width, inner, 0, transposed ? 0 : 1);
  });
  return y;
}

export const linear =
  (native: Native): FusedKernel<'Linear', CpuBackend> =>
  ({ x, weight, residual }, { transposed }, backend) => [
    multiply(native, backend, [x, weight, residual], transposed),
  ];

export const linearGroup =
  (native: Native): FusedKernel<'LinearGroup', CpuBackend> =>
  (inputs, { count }, backend) => {
    const x = inputs.x as TensorInfo;
    return Array.from({ length: count }, (_, i) =>
      multiply(native, backend, [x, inputs[`weight${i}`] as TensorInfo], false),
    );
  };

export const roundFloat8 =
  (native: Native): FusedKernel<'RoundFloat8', CpuBackend> =>
  ({ x }, _, backend) => {
    const y = backend.output(x.shape);
    const [values, rounded] = [backend.floats(x), backend.floats(y)];
    backend.launch(() => {
      native.round_float8(values, rounded, ...rowsOf(x));
    });
    return [y];
  };
