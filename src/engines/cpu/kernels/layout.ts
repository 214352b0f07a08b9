/** Kernels that only move values: by ONNX Runtime where they gather, by copying whole runs where they do not. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { node } from '../onnx.js';
import {
  allInputs,
  input,
  isFloat,
  type KernelCall,
  type NativeKernel,
  sizeOf,
  WORTH_A_CALL,
} from './call.js';
import { collapseTranspose } from './shapes.js';

function transpose(call: KernelCall): TensorInfo | undefined {
  const x = input(call, 'x');
  const { perm } = call.attrs as { perm: number[] };
  if (!isFloat(x) || sizeOf(x.shape) < WORTH_A_CALL) return undefined;
  const { backend } = call;
  const y = backend.output(perm.map((axis) => x.shape[axis] ?? 1));
  const { shape, permutation } = collapseTranspose(x.shape, perm);
  const rank = shape.length;
  if (rank < 2) {
    backend.floats(y).set(backend.floats(x));
    return y;
  }
  const graph = () => ({
    inputs: [{ name: 'x', rank }],
    outputs: [{ name: 'y', rank }],
    nodes: [node('Transpose', ['x'], ['y'], { perm: permutation })],
  });
  const target = permutation.map((axis) => shape[axis] ?? 1);
  backend.run(
    `Transpose/${permutation.join()}`,
    graph,
    { x: backend.onnx(x, shape) },
    { y: backend.onnx(y, target) },
  );
  return y;
}

/** Copies a box out of `x`, run by run of its contiguous part. */
function slice(call: KernelCall): TensorInfo | undefined {
  const x = input(call, 'x');
  const attrs = call.attrs as { begin: number | number[]; size: number | number[] };
  const begin = x.shape.map((_, i) => [attrs.begin].flat()[i] ?? 0);
  const size = x.shape.map((length, i) => {
    const extent = [attrs.size].flat()[i] ?? -1;
    return extent === -1 ? length - (begin[i] ?? 0) : extent;
  });
  if (!isFloat(x) || sizeOf(size) < WORTH_A_CALL) return undefined;
  const inBounds = size.every((length, i) => length >= 0 && (begin[i] ?? 0) + length <= (x.shape[i] ?? 0));
  if (!inBounds) return undefined;
  const y = call.backend.output(size);
  const boxes: CopyBoxes = { shape: x.shape, begin, size };
  copyBox(call.backend.floats(x), boxes, call.backend.floats(y), {
    shape: size,
    begin: size.map(() => 0),
    size,
  });
  return y;
}

function concat(call: KernelCall): TensorInfo | undefined {
  const parts = allInputs(call).filter((part) => sizeOf(part.shape) > 0);
  const [first] = parts;
  if (!first || !isFloat(...parts)) return undefined;
  const rank = first.shape.length;
  const axis = ((call.attrs as { axis: number }).axis + rank) % rank;
  const shape = [...first.shape];
  shape[axis] = parts.reduce((sum, part) => sum + (part.shape[axis] ?? 0), 0);
  if (sizeOf(shape) < WORTH_A_CALL) return undefined;
  const { backend } = call;
  const y = backend.output(shape);
  let offset = 0;
  for (const part of parts) {
    const zero = shape.map(() => 0);
    const begin = zero.map((_, i) => (i === axis ? offset : 0));
    const from = { shape: part.shape, begin: zero, size: part.shape };
    copyBox(backend.floats(part), from, backend.floats(y), { shape, begin, size: part.shape });
    offset += part.shape[axis] ?? 0;
  }
  return y;
}

function pad(call: KernelCall): TensorInfo | undefined {
  const x = input(call, 'x');
  const { paddings, constantValue } = call.attrs as { paddings: [number, number][]; constantValue: number };
  const shape = x.shape.map((size, i) => size + (paddings[i]?.[0] ?? 0) + (paddings[i]?.[1] ?? 0));
  if (!isFloat(x) || sizeOf(shape) < WORTH_A_CALL) return undefined;
  const { backend } = call;
  const y = backend.output(shape);
  backend.floats(y).fill(constantValue);
  const from = { shape: x.shape, begin: x.shape.map(() => 0), size: x.shape };
  const to = { shape, begin: x.shape.map((_, i) => paddings[i]?.[0] ?? 0), size: x.shape };
  copyBox(backend.floats(x), from, backend.floats(y), to);
  return y;
}

/** A box of `size` that begins at `begin` in a row-major array of `shape`. */
interface CopyBoxes {
  readonly shape: readonly number[];
  readonly begin: readonly number[];
  readonly size: readonly number[];
}

/** Copies a box between two arrays; both boxes have the same size. */
function copyBox(source: Float32Array, from: CopyBoxes, target: Float32Array, to: CopyBoxes): void {
  const rank = from.size.length;
  // The last axes that both boxes span whole, and the one before them, form one contiguous run.
  let split = rank - 1;
  const whole = (box: CopyBoxes, axis: number) => box.size[axis] === box.shape[axis];
  while (split > 0 && whole(from, split) && whole(to, split)) split--;
  const run = sizeOf(from.size.slice(Math.max(split, 0)));
  const [fromStrides, toStrides] = [strides(from.shape), strides(to.shape)];
  const copy = (axis: number, fromOffset: number, toOffset: number): void => {
    const [a, b] = [fromStrides[axis] ?? 1, toStrides[axis] ?? 1];
    const fromStart = fromOffset + (from.begin[axis] ?? 0) * a;
    const toStart = toOffset + (to.begin[axis] ?? 0) * b;
    if (axis >= split) {
      const skip = (box: CopyBoxes, steps: number[]) =>
        box.begin.slice(axis + 1).reduce((sum, start, i) => sum + start * (steps[axis + 1 + i] ?? 1), 0);
      const [f, t] = [fromStart + skip(from, fromStrides), toStart + skip(to, toStrides)];
      if (run < 32) for (let i = 0; i < run; i++) target[t + i] = source[f + i] as number;
      else target.set(source.subarray(f, f + run), t);
      return;
    }
    const count = from.size[axis] ?? 1;
    for (let i = 0; i < count; i++) copy(axis + 1, fromStart + i * a, toStart + i * b);
  };
  if (run > 0) copy(0, 0, 0);
}

function strides(shape: readonly number[]): number[] {
  const steps = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--)
    steps[axis] = (steps[axis + 1] ?? 1) * (shape[axis + 1] ?? 1);
  return steps;
}

function fill(call: KernelCall): TensorInfo | undefined {
  const { shape, value, dtype } = call.attrs as { shape: number[]; value: number | string; dtype?: string };
  if (typeof value !== 'number') return undefined;
  // Codes of compressed keys and values are integers, read as much as floats.
  if (dtype === 'int32' && sizeOf(shape) >= WORTH_A_CALL) {
    const y = call.backend.output(shape, 'int32');
    call.backend.integers(y).fill(value);
    return y;
  }
  if ((dtype ?? 'float32') !== 'float32') return undefined;
  const y = call.backend.output(shape);
  call.backend.floats(y).fill(value);
  return y;
}

function constantLike(value: number): NativeKernel {
  return (call) => {
    const x = input(call, 'x');
    if (!isFloat(x)) return undefined;
    const y = call.backend.output(x.shape);
    call.backend.floats(y).fill(value);
    return y;
  };
}

/** Repeats `x` along its dimensions: a product with nothing, as ONNX's Expand over a dimension of 1 before each. */
function tile(call: KernelCall): TensorInfo | undefined {
  const x = input(call, 'x');
  const { reps } = call.attrs as { reps: number[] };
  const shape = x.shape.map((size, i) => size * (reps[i] ?? 1));
  if (!isFloat(x) || sizeOf(shape) < WORTH_A_CALL) return undefined;
  const { backend } = call;
  const rank = shape.length;
  const y = backend.output(shape);
  const graph = () => ({
    inputs: [
      { name: 'x', rank },
      { name: 'reps', rank: 1, type: 'int64' as const },
    ],
    outputs: [{ name: 'y', rank }],
    nodes: [node('Tile', ['x', 'reps'], ['y'])],
  });
  const repeats = backend.runtime.wrap(BigInt64Array.from(reps, BigInt), [rank]);
  backend.run(`Tile/${rank}`, graph, { x: backend.onnx(x), reps: repeats }, { y: backend.onnx(y) });
  return y;
}

/** Rows of `x` along `axis` by index, copied whole. */
function gather(call: KernelCall): TensorInfo | undefined {
  const [x, indices] = [input(call, 'x'), input(call, 'indices')];
  const { axis, batchDims } = call.attrs as { axis: number; batchDims: number };
  if (!isFloat(x) || axis !== 0 || batchDims !== 0 || indices.dtype !== 'int32') return undefined;
  const row = sizeOf(x.shape.slice(1));
  const count = x.shape[0] ?? 0;
  const { backend } = call;
  const ids = backend.data.get(indices.dataId).values as Int32Array;
  if (ids.some((id) => id < 0 || id >= count)) return undefined;
  const y = backend.output([...indices.shape, ...x.shape.slice(1)]);
  const [source, target] = [backend.floats(x), backend.floats(y)];
  ids.forEach((id, i) => {
    target.set(source.subarray(id * row, (id + 1) * row), i * row);
  });
  return y;
}

/** Integers or booleans as floats: tfjs' own kernel keeps their memory, which is not that of floats. */
function cast(call: KernelCall): TensorInfo | undefined {
  const x = input(call, 'x');
  const { dtype } = call.attrs as { dtype: string };
  if (dtype !== 'float32' || (x.dtype !== 'int32' && x.dtype !== 'bool')) return undefined;
  const { backend } = call;
  const y = backend.output(x.shape);
  backend.floats(y).set(backend.data.get(x.dataId).values as Int32Array | Uint8Array);
  return y;
}

export function layoutKernels(): Record<string, NativeKernel> {
  return {
    Cast: cast,
    Concat: concat,
    Fill: fill,
    GatherV2: gather,
    OnesLike: constantLike(1),
    PadV2: pad,
    Slice: slice,
    Tile: tile,
    Transpose: transpose,
    ZerosLike: constantLike(0),
  };
}
