import { type DataType, type TensorInfo, backend_util, util } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import { float32, int32, int64, pointer } from '../launch.js';
import { sizeOf } from '../walk.js';
import { transpose } from './layout.js';
import { type CudaKernel, input, registerAll } from './register.js';
import type { Fallback } from './elementwise.js';

const file = 'reduce';

/** The reduced axes as one block of the shape: [outer, extent, inner]. `null` when they are not neighbours. */
export function reductionBlock(
  shape: readonly number[],
  axes: readonly number[],
): [number, number, number] | null {
  const significant = axes.filter((axis) => shape[axis] !== 1);
  const [first, last] = [significant[0] ?? 0, significant.at(-1) ?? -1];
  for (let axis = first; axis <= last; axis++) {
    if (shape[axis] !== 1 && !significant.includes(axis)) return null;
  }
  return [sizeOf(shape.slice(0, first)), sizeOf(shape.slice(first, last + 1)), sizeOf(shape.slice(last + 1))];
}

type Reduction = 'Sum' | 'Max' | 'Min' | 'Prod' | 'All' | 'Any';

/** Reduces `axes` of `x`, in any order, multiplying the result by `scale`. */
export function reduce(
  backend: CudaBackend,
  name: Reduction,
  x: TensorInfo,
  unsorted: readonly number[],
  keepDims: boolean,
  scale = 1,
): TensorInfo {
  const axes = [...unsorted].sort((a, b) => a - b);
  const [kept] = backend_util.computeOutAndReduceShapes(x.shape, [...axes]);
  const shape = keepDims ? backend_util.expandShapeToKeepDim(kept, [...axes]) : kept;
  const block = reductionBlock(x.shape, axes);
  if (block === null) {
    const order = [...x.shape.keys()].filter((axis) => !axes.includes(axis));
    const turned = transpose(backend, x, [...order, ...axes]);
    const last = axes.map((_, index) => order.length + index);
    const out = reduce(backend, name, turned, last, false, scale);
    backend.release(turned);
    out.shape = shape;
    return out;
  }
  return reduceBlock(backend, name, x, block, shape, scale);
}

/** Shortest rows that are worth two passes, and elements of a slice of one. */
const LONG_ROW = 2 ** 16;
const LEAST_SLICE = 2 ** 14;

/**
 * Elements of a slice when `rows` rows of `extent` elements alone would leave multiprocessors idle; null when they would
 * not. A multiple of 8, for wide loads.
 */
export function sliceLength(rows: number, extent: number, multiprocessors: number): number | null {
  if (extent < LONG_ROW || rows >= 2 * multiprocessors) return null;
  const slices = Math.ceil((4 * multiprocessors) / rows);
  return Math.ceil(Math.max(LEAST_SLICE, extent / slices) / 8) * 8;
}

/** Long rows in two passes; the result is kept in float32, as a sum of so many deserves. */
function reduceLong(
  backend: CudaBackend,
  name: Reduction,
  x: TensorInfo,
  [rows, extent]: readonly [number, number],
  slice: number,
  shape: number[],
  scale: number,
): TensorInfo {
  const storage = backend.storageFor(x);
  const out = backend.output(shape, 'float32', 'float32');
  const slices = Math.ceil(extent / slice);
  backend.scratch(rows * slices * 4, (partial) => {
    const first = [pointer(backend.pointer(x, storage)), pointer(partial), int64(extent), int64(slice)];
    backend.launch({ file, name: `slices_${name}`, storage }, [slices, rows], 512, first);
    const to = pointer(backend.pointer(out, 'float32'));
    const join = { file, name: `rows_${name}_float32`, storage: 'float32' } as const;
    backend.launch(join, [rows], 128, [pointer(partial), to, int64(slices), int64(1), float32(scale)]);
  });
  return out;
}

function reduceBlock(
  backend: CudaBackend,
  name: Reduction,
  x: TensorInfo,
  [outer, extent, inner]: [number, number, number],
  shape: number[],
  scale: number,
): TensorInfo {
  const slice = sliceLength(outer, extent, backend.device.driver.multiprocessors);
  if (x.dtype === 'float32' && inner === 1 && slice !== null) {
    return reduceLong(backend, name, x, [outer, extent], slice, shape, scale);
  }
  const storage = backend.storageFor(x);
  const out = backend.output(shape, x.dtype, storage);
  const [from, to] = [pointer(backend.pointer(x, storage)), pointer(backend.pointer(out, storage))];
  if (name === 'Sum' && x.dtype === 'int32') {
    const args = [from, to, int64(outer * inner), int64(extent), int64(inner)];
    backend.launch({ file, name: 'sum_int32' }, backend.blocks(outer * inner), THREADS, args);
    return out;
  }
  const args = [from, to, int64(extent), int64(inner), float32(scale)];
  if (inner === 1) {
    const threads = extent > 1024 ? 512 : 128;
    backend.launch({ file, name: `rows_${name}_${x.dtype}`, storage }, [outer], threads, args);
  } else {
    const grid = [Math.ceil(inner / 32), outer] as const;
    backend.launch(
      { file, name: `columns_${name}_${x.dtype}`, storage },
      grid,
      extent > 64 ? 1024 : 256,
      args,
    );
  }
  return out;
}

const DTYPES: Readonly<Record<Reduction, readonly DataType[]>> = {
  Sum: ['float32', 'int32'],
  Max: ['float32', 'int32'],
  Min: ['float32', 'int32'],
  Prod: ['float32'],
  All: ['bool'],
  Any: ['bool'],
};

function reduction(name: Reduction, fallback: Fallback): CudaKernel {
  const other = fallback(name);
  return (inputs, attrs, backend) => {
    const x = input(inputs, 'x');
    if (!DTYPES[name].includes(x.dtype)) return other(inputs, attrs, backend);
    const axes = util.parseAxisParam((attrs.axis ?? attrs.reductionIndices) as number[], x.shape);
    return reduce(backend, name, x, axes, (attrs.keepDims as boolean | undefined) ?? false);
  };
}

const mean: CudaKernel = (inputs, attrs, backend) => {
  const x = input(inputs, 'x');
  const axes = util.parseAxisParam(attrs.axis as number[], x.shape);
  const count = sizeOf(axes.map((axis) => x.shape[axis] ?? 1));
  return reduce(backend, 'Sum', x, axes, (attrs.keepDims as boolean | undefined) ?? false, 1 / count);
};

/** A kernel that works on rows along the last axis; other axes are brought there first. */
function alongLast(
  backend: CudaBackend,
  x: TensorInfo,
  axis: number,
  work: (x: TensorInfo) => TensorInfo,
): TensorInfo {
  const rank = x.shape.length;
  if (axis === rank - 1) return work(x);
  const others = [...x.shape.keys()].filter((at) => at !== axis);
  const turned = transpose(backend, x, [...others, axis]);
  const out = work(turned);
  backend.release(turned);
  if (out.shape.length < rank) return out;
  const back = [...others, axis].map((_, at) => [...others, axis].indexOf(at));
  const result = transpose(backend, out, back);
  backend.release(out);
  return result;
}

function rowKernel(backend: CudaBackend, name: string, x: TensorInfo): TensorInfo {
  const storage = backend.storageFor(x);
  const out = backend.output(x.shape, 'float32', storage);
  const extent = x.shape.at(-1) ?? 1;
  const rows = sizeOf(x.shape) / Math.max(1, extent);
  const args = [pointer(backend.pointer(x, storage)), pointer(backend.pointer(out, storage)), int64(extent)];
  backend.launch({ file, name, storage }, [rows], extent > 1024 ? 512 : 128, args);
  return out;
}

function argExtreme(sign: number): CudaKernel {
  return (inputs, attrs, backend) => {
    const whole = input(inputs, 'x');
    const axis = util.parseAxisParam(attrs.axis as number, whole.shape)[0] ?? 0;
    return alongLast(backend, whole, axis, (x) => {
      const out = backend.output(x.shape.slice(0, -1), 'int32');
      const extent = x.shape.at(-1) ?? 1;
      const args = [pointer(backend.pointer(x)), pointer(backend.pointer(out)), int64(extent), float32(sign)];
      const threads = extent > 8192 ? 1024 : 256;
      backend.launch({ file, name: 'arg_extreme' }, [sizeOf(out.shape)], threads, args);
      return out;
    });
  };
}

const cumulativeSum: CudaKernel = (inputs, attrs, backend) => {
  const whole = input(inputs, 'x');
  const axis = util.parseAxisParam(attrs.axis as number, whole.shape)[0] ?? 0;
  return alongLast(backend, whole, axis, (x) => {
    const storage = backend.storageFor(x);
    const out = backend.output(x.shape, 'float32', storage);
    const extent = x.shape.at(-1) ?? 1;
    const rows = sizeOf(x.shape) / Math.max(1, extent);
    const flags = [attrs.exclusive === true ? 1 : 0, attrs.reverse === true ? 1 : 0];
    const args = [
      pointer(backend.pointer(x, storage)),
      pointer(backend.pointer(out, storage)),
      int64(rows),
      int64(extent),
      ...flags.map(int32),
    ];
    backend.launch({ file, name: 'cumulative_sum', storage }, [Math.ceil(rows / 8)], THREADS, args);
    return out;
  });
};

export function registerReductions(fallback: Fallback): void {
  for (const name of ['Sum', 'Max', 'Min', 'Prod', 'All', 'Any'] as const) {
    registerAll({ [name]: reduction(name, fallback) });
  }
  registerAll({
    Mean: mean,
    ArgMax: argExtreme(1),
    ArgMin: argExtreme(-1),
    Cumsum: cumulativeSum,
    Softmax: (inputs, _attrs, backend) => rowKernel(backend, 'softmax_rows', input(inputs, 'logits')),
    LogSoftmax: (inputs, attrs, backend) => {
      const x = input(inputs, 'logits');
      const axis = util.parseAxisParam(attrs.axis as number, x.shape)[0] ?? 0;
      return alongLast(backend, x, axis, (rows) => rowKernel(backend, 'log_softmax_rows', rows));
    },
  });
}
