import { type TensorInfo, backend_util, slice_util, util } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import { int32, int64, pointer } from '../launch.js';
import { WALK } from '../structs.js';
import { broadcastStrides, copyWalk, sizeOf, stridesOf } from '../walk.js';
import { fill } from './elementwise.js';
import { type CudaKernel, input, registerAll, registerFusedOp } from './register.js';

const file = 'layout';

interface Side {
  info: TensorInfo;
  strides: readonly number[];
  offset?: number;
}

/** Copies the elements at `shape`'s indices from one strided view to another. */
function copyStrided(backend: CudaBackend, shape: readonly number[], from: Side, to: Side): void {
  const size = sizeOf(shape);
  if (size === 0) return;
  const storage = backend.storageFor(to.info);
  const bytes = backend.elementBytes(from.info.dtype, storage);
  const walk = copyWalk(shape, from.strides, to.strides, bytes, from.offset, to.offset);
  const source = backend.pointer(from.info, storage) + walk.offsets[0] * walk.unit;
  const destination = backend.pointer(to.info, storage) + walk.offsets[1] * walk.unit;
  const units = sizeOf(walk.shape);
  if (walk.shape.length === 0 || (walk.shape.length === 1 && walk.strides.every((list) => list[0] === 1))) {
    backend.copy(destination, source, units * walk.unit);
    return;
  }
  const [fromStrides = [], toStrides = []] = walk.strides;
  const args = [
    pointer(source),
    pointer(destination),
    int64(units),
    int32(walk.shape.length),
    WALK.argument({ shape: walk.shape, source: fromStrides, destination: toStrides }),
  ];
  backend.launch({ file, name: `copy${walk.unit}` }, backend.blocks(units), THREADS, args);
}

/** A new tensor of `shape` gathered from `x` by strides. */
function view(
  backend: CudaBackend,
  x: TensorInfo,
  shape: readonly number[],
  strides: readonly number[],
  offset = 0,
): TensorInfo {
  const out = backend.output(shape, x.dtype, backend.storageFor(x));
  copyStrided(backend, shape, { info: x, strides, offset }, { info: out, strides: stridesOf(shape) });
  return out;
}

export function transpose(backend: CudaBackend, x: TensorInfo, permutation: readonly number[]): TensorInfo {
  const strides = stridesOf(x.shape);
  const shape = permutation.map((axis) => x.shape[axis] ?? 1);
  return view(backend, x, shape, permutation.map((axis) => strides[axis] ?? 0)); // prettier-ignore
}

function offsetOf(begin: readonly number[], strides: readonly number[]): number {
  return begin.reduce((sum, at, axis) => sum + at * (strides[axis] ?? 0), 0);
}

export function slice(
  backend: CudaBackend,
  x: TensorInfo,
  begin: readonly number[],
  size: readonly number[],
): TensorInfo {
  const strides = stridesOf(x.shape);
  return view(backend, x, size, strides, offsetOf(begin, strides));
}

function concat(backend: CudaBackend, parts: readonly TensorInfo[], axis: number): TensorInfo {
  const shape = backend_util.computeOutShape(parts.map((part) => part.shape), axis); // prettier-ignore
  const out = backend.output(shape, parts[0]?.dtype, backend.storageFor(...parts));
  const strides = stridesOf(shape);
  let at = 0;
  for (const part of parts) {
    const to = { info: out, strides, offset: at * (strides[axis] ?? 0) };
    copyStrided(backend, part.shape, { info: part, strides: stridesOf(part.shape) }, to);
    at += part.shape[axis] ?? 0;
  }
  return out;
}

const splitV: CudaKernel = (inputs, attrs, backend) => {
  const x = input(inputs, 'x');
  const axis = util.parseAxisParam(attrs.axis as number, x.shape)[0] ?? 0;
  const sizes = backend_util.prepareSplitSize(x, attrs.numOrSizeSplits as number[] | number, axis);
  const begin = new Array<number>(x.shape.length).fill(0);
  return sizes.map((extent) => {
    const size = x.shape.map((whole, at) => (at === axis ? extent : whole));
    const part = slice(backend, x, begin, size);
    begin[axis] = (begin[axis] ?? 0) + extent;
    return part;
  });
};

const stridedSlice: CudaKernel = (inputs, attrs, backend) => {
  const x = input(inputs, 'x');
  const { finalShapeSparse, finalShape, isIdentity, begin, strides } = slice_util.sliceInfo(
    x.shape, attrs.begin as number[], attrs.end as number[], attrs.strides as number[], attrs.beginMask as number,
    attrs.endMask as number, attrs.ellipsisMask as number, attrs.newAxisMask as number, attrs.shrinkAxisMask as number,
  ); // prettier-ignore
  if (isIdentity) return backend.alias(x, finalShape);
  const own = stridesOf(x.shape);
  const steps = own.map((stride, axis) => stride * (strides[axis] ?? 1));
  const out = view(backend, x, finalShapeSparse, steps, offsetOf(begin, own));
  out.shape = finalShape;
  return out;
};

const pad: CudaKernel = (inputs, attrs, backend) => {
  const x = input(inputs, 'x');
  const paddings = attrs.paddings as [number, number][];
  const shape = x.shape.map(
    (extent, axis) => extent + (paddings[axis]?.[0] ?? 0) + (paddings[axis]?.[1] ?? 0),
  );
  const out = fill(backend, shape, x.dtype, Number(attrs.constantValue ?? 0));
  const strides = stridesOf(shape);
  const begin = paddings.map(([before]) => before);
  const offset = offsetOf(begin, strides);
  copyStrided(backend, x.shape, { info: x, strides: stridesOf(x.shape) }, { info: out, strides, offset });
  return out;
};

const tile: CudaKernel = (inputs, attrs, backend) => {
  const x = input(inputs, 'x');
  const repeats = attrs.reps as number[];
  const own = stridesOf(x.shape);
  const shape = x.shape.flatMap((extent, axis) => [repeats[axis] ?? 1, extent]);
  const out = view(backend, x, shape, own.flatMap((stride) => [0, stride])); // prettier-ignore
  out.shape = x.shape.map((extent, axis) => extent * (repeats[axis] ?? 1));
  return out;
};

const reverse: CudaKernel = (inputs, attrs, backend) => {
  const x = input(inputs, 'x');
  const dims = new Set(util.parseAxisParam(attrs.dims as number[], x.shape));
  const own = stridesOf(x.shape);
  const strides = own.map((stride, axis) => (dims.has(axis) ? -stride : stride));
  const begin = x.shape.map((extent, axis) => (dims.has(axis) ? extent - 1 : 0));
  return view(backend, x, x.shape, strides, offsetOf(begin, own));
};

function pack(backend: CudaBackend, parts: readonly TensorInfo[], axis: number): TensorInfo {
  const widened = parts.map((part) => ({
    ...part,
    shape: [...part.shape.slice(0, axis), 1, ...part.shape.slice(axis)],
  }));
  return concat(backend, widened, axis);
}

const unpack: CudaKernel = (inputs, attrs, backend) => {
  const value = input(inputs, 'value');
  const axis = util.parseAxisParam(attrs.axis as number, value.shape)[0] ?? 0;
  const size = value.shape.map((extent, at) => (at === axis ? 1 : extent));
  return Array.from({ length: value.shape[axis] ?? 0 }, (_, index) => {
    const begin = value.shape.map((_extent, at) => (at === axis ? index : 0));
    const part = slice(backend, value, begin, size);
    part.shape = part.shape.filter((_extent, at) => at !== axis);
    return part;
  });
};

const reshape: CudaKernel = (inputs, attrs, backend) => {
  const x = input(inputs, 'x');
  return backend.alias(x, util.inferFromImplicitShape(attrs.shape as number[], sizeOf(x.shape)));
};

const axisOf = (axis: unknown, rank: number): number => {
  const at = (axis as number | undefined) ?? 0;
  return at < 0 ? at + rank : at;
};

/** The bits of x as they are: what the host sends as float32 would be rounded to the storage. */
function float32Bits(backend: CudaBackend, x: TensorInfo): TensorInfo[] {
  const y = backend.output(x.shape, 'float32', 'float32');
  const size = sizeOf(x.shape);
  if (size > 0) backend.copy(backend.pointer(y, 'float32'), backend.pointer(x), 4 * size);
  return [y];
}

export function registerLayout(): void {
  registerFusedOp('Float32Bits', ({ x }, _attrs, backend) => float32Bits(backend, x));
  registerAll({
    BroadcastTo: (inputs, attrs, backend) => {
      const x = input(inputs, 'x');
      const shape = attrs.shape as number[];
      return view(backend, x, shape, broadcastStrides(x.shape, shape));
    },
    Concat: (inputs, attrs, backend) => {
      const parts = Object.values(inputs);
      return concat(backend, parts, axisOf(attrs.axis, parts[0]?.shape.length ?? 1));
    },
    ExpandDims: (inputs, attrs, backend) => {
      const x = input(inputs, 'input');
      const axis = axisOf(attrs.dim, x.shape.length + 1);
      return backend.alias(x, [...x.shape.slice(0, axis), 1, ...x.shape.slice(axis)]);
    },
    Identity: (inputs, _attrs, backend) => backend.alias(input(inputs, 'x'), input(inputs, 'x').shape),
    Pack: (inputs, attrs, backend) => {
      const parts = Object.values(inputs);
      return pack(backend, parts, axisOf(attrs.axis, (parts[0]?.shape.length ?? 0) + 1));
    },
    PadV2: pad,
    Range: (_inputs, attrs, backend) => {
      const [start, stop] = [attrs.start as number, attrs.stop as number];
      const step = (attrs.step as number | undefined) ?? (stop < start ? -1 : 1);
      const count = Math.max(0, Math.ceil((stop - start) / step));
      return fill(
        backend,
        [count],
        (attrs.dtype as 'float32' | 'int32' | undefined) ?? 'float32',
        start,
        step,
      );
    },
    Reshape: reshape,
    Reverse: reverse,
    Slice: (inputs, attrs, backend) => {
      const x = input(inputs, 'x');
      const [begin, size] = slice_util.parseSliceParams(x, attrs.begin as number[], attrs.size as number[]);
      return slice(backend, x, begin ?? [], size ?? []);
    },
    SplitV: splitV,
    StridedSlice: stridedSlice,
    Tile: tile,
    Transpose: (inputs, attrs, backend) => transpose(backend, input(inputs, 'x'), attrs.perm as number[]),
    Unpack: unpack,
  });
}
