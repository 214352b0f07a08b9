/**
 * Projections to few columns. Where rows of y are no multiple of 16 bytes, a product of cuBLASLt takes several times as long as reading x; on
 * an H200 those to 8 and to 24 columns do not (`bench/cuda/linear-group.ts`).
 */
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { int32, pointer } from '../launch.js';
import { TILES } from '../tiles.js';
import { sizeOf } from '../walk.js';

const file = 'linear_narrow';
const { COLUMNS, WARPS, ROWS, THREADS, GRAD_WARPS, STEP } = TILES.linear_narrow;
/** Rows of a block of the projection itself: those of a tensor core's operand. */
const BLOCK_ROWS = 16;
/** Columns of x of a block of the weight's gradient. */
const GRAD_COLUMNS = 64;
/** Blocks of the weight's gradient that a multiprocessor has at a time. */
const GRAD_BLOCKS = 4;
/** Outputs of a block that adds slices up. */
const SUMS = 32;

export function isNarrow(backend: CudaBackend, weight: TensorInfo): boolean {
  const [columns = 1, inner = 1] = weight.shape;
  return backend.storage !== 'float32' && columns < COLUMNS && inner % 8 === 0;
}

/** y = x weightᵀ. */
export function linearNarrow(backend: CudaBackend, x: TensorInfo, weight: TensorInfo): TensorInfo {
  const [columns = 1, inner = 1] = weight.shape;
  const rows = sizeOf(x.shape) / inner;
  const y = backend.output([...x.shape.slice(0, -1), columns]);
  const args = [...addresses(backend, x, weight, y), int32(rows), int32(inner), int32(columns)];
  backend.launch({ file, name: 'linear_narrow' }, [Math.ceil(rows / BLOCK_ROWS)], WARPS * 32, args);
  return y;
}

/** dx = dy weight (+ add). */
export function linearNarrowInputGrad(
  backend: CudaBackend,
  dy: TensorInfo,
  weight: TensorInfo,
  add: TensorInfo | undefined,
): TensorInfo {
  const [columns = 1, inner = 1] = weight.shape;
  const rows = sizeOf(dy.shape) / columns;
  const dx = backend.output([...dy.shape.slice(0, -1), inner]);
  const args = [
    ...addresses(backend, dy, weight),
    pointer(add === undefined ? 0 : backend.pointer(add)),
    ...addresses(backend, dx),
    ...[int32(rows), int32(inner), int32(columns)],
  ];
  const grid = [Math.ceil(inner / (2 * THREADS)), Math.ceil(rows / ROWS)] as const;
  if (rows > 0) backend.launch({ file, name: 'linear_narrow_input_grad' }, grid, THREADS, args);
  return dx;
}

/** dWeight = dyᵀ x, in slices of the rows that are added up in their order. */
export function linearNarrowWeightGrad(backend: CudaBackend, dy: TensorInfo, x: TensorInfo): TensorInfo {
  const [columns, inner] = [dy.shape.at(-1) ?? 1, x.shape.at(-1) ?? 1];
  const rows = sizeOf(x.shape) / inner;
  const out = backend.output([columns, inner]);
  const across = Math.ceil(inner / GRAD_COLUMNS);
  const wanted = Math.ceil((backend.device.driver.multiprocessors * GRAD_BLOCKS) / across);
  const slices = Math.max(1, Math.min(wanted, Math.ceil(rows / (STEP * GRAD_WARPS))));
  const size = columns * inner;
  backend.scratch(slices * size * 4, (partial) => {
    const args = [...addresses(backend, dy, x), pointer(partial), int32(rows), int32(inner), int32(columns)];
    const name = 'linear_narrow_weight_grad';
    backend.launch({ file, name }, [across, slices], GRAD_WARPS * 32, args);
    const sum = [pointer(partial), ...addresses(backend, out), int32(size), int32(slices)];
    backend.launch({ file, name: 'linear_narrow_sum' }, [Math.ceil(size / SUMS)], 256, sum);
  });
  return out;
}

function addresses(backend: CudaBackend, ...infos: TensorInfo[]) {
  return infos.map((info) => pointer(backend.pointer(info)));
}
