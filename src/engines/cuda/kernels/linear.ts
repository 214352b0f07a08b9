/** Linear layers: cuBLASLt for many rows, an own kernel for the few rows of decoding. */
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { int32, pointer } from '../launch.js';
import { GROUP } from '../structs.js';
import { TILES } from '../tiles.js';
import { sizeOf } from '../walk.js';
import { matmul } from './matmul.js';

export function linear(
  backend: CudaBackend,
  x: TensorInfo,
  weight: TensorInfo,
  residual: TensorInfo | undefined,
  transposed: boolean,
): TensorInfo {
  if (!transposed && hasFewRows(backend, x)) return gemv(backend, x, [weight], residual)[0] as TensorInfo;
  const [rowsW = 1, columnsW = 1] = weight.shape;
  const [inner, width] = transposed ? [rowsW, columnsW] : [columnsW, rowsW];
  const rows = sizeOf(x.shape) / Math.max(1, inner);
  const out = backend.output([...x.shape.slice(0, -1), width]);
  const add = residual === undefined ? undefined : backend.pointer(residual);
  const options = { transposeB: !transposed, add };
  matmul(
    backend,
    [rows, width, inner],
    backend.pointer(x),
    backend.pointer(weight),
    backend.pointer(out),
    options,
  );
  return out;
}

const { GEMV_ROWS, GEMV_WEIGHTS, THREADS } = TILES.gemv;

/** Whether products with these rows are bound by reading the weights, which the kernel for few rows does best. */
function hasFewRows(backend: CudaBackend, x: TensorInfo): boolean {
  const inner = x.shape.at(-1) ?? 1;
  return sizeOf(x.shape) <= GEMV_ROWS * inner && inner % (16 / backend.elementBytes('float32')) === 0;
}

/** Up to {@link GEMV_WEIGHTS} projections of at most {@link GEMV_ROWS} rows in one launch. */
function gemv(
  backend: CudaBackend,
  x: TensorInfo,
  weights: readonly TensorInfo[],
  residual?: TensorInfo,
): TensorInfo[] {
  const inner = x.shape.at(-1) ?? 1;
  const rows = sizeOf(x.shape) / inner;
  const widths = weights.map((weight) => weight.shape[0] ?? 1);
  const outs = widths.map((width) => backend.output([...x.shape.slice(0, -1), width]));
  const chained = {
    x: backend.pointer(x),
    rows,
    inner,
    weights: weights.map((weight) => backend.pointer(weight)),
    outs: outs.map((out) => backend.pointer(out)),
    widths,
    residual: residual === undefined ? 0 : backend.pointer(residual),
    swiglu: false,
  };
  if (backend.device.recording?.chain?.add(chained) === true) return outs;
  const total = widths.reduce((sum, width) => sum + width, 0);
  const args = [
    pointer(chained.x),
    GROUP.argument({ weights: chained.weights, outs: chained.outs, widths }),
    pointer(chained.residual),
    int32(rows),
    int32(inner),
    int32(total),
  ];
  backend.launch(
    { file: 'gemv', name: 'gemv', early: true },
    [Math.ceil(total / (THREADS / 32))],
    THREADS,
    args,
  );
  return outs;
}

/** silu(x activatedᵀ) * (x gateᵀ) in one launch, where x has few rows; null where it has many. */
export function gemvSwiglu(
  backend: CudaBackend,
  x: TensorInfo,
  activated: TensorInfo,
  gate: TensorInfo,
): TensorInfo | null {
  if (!hasFewRows(backend, x)) return null;
  const [width = 1, inner = 1] = activated.shape;
  const out = backend.output([...x.shape.slice(0, -1), width]);
  const rows = sizeOf(x.shape) / inner;
  const [from, first, second, to] = [x, activated, gate, out].map((info) => backend.pointer(info)) as [
    number,
    number,
    number,
    number,
  ];
  const [weights, outs, widths] = [[first, second], [to], [width]];
  const chained = { x: from, rows, inner, weights, outs, widths, residual: 0, swiglu: true };
  if (backend.device.recording?.chain?.add(chained) === true) return out;
  const args = [...[from, first, second, to].map(pointer), ...[rows, inner, width].map(int32)];
  const blocks = Math.ceil(width / (THREADS / 64));
  backend.launch({ file: 'gemv', name: 'gemv_swiglu', early: true }, [blocks], THREADS, args);
  return out;
}

/** Projections of one x in one launch, where it has few rows; null where it has many. */
export function linearFewRows(
  backend: CudaBackend,
  x: TensorInfo,
  weights: readonly TensorInfo[],
): TensorInfo[] | null {
  return weights.length <= GEMV_WEIGHTS && hasFewRows(backend, x) ? gemv(backend, x, weights) : null;
}
