/** Reductions and softmax. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { node } from '../onnx.js';
import { input, isFloat, type KernelCall, type NativeKernel, sizeOf, WORTH_A_CALL } from './call.js';
import { mergeDimensions } from './shapes.js';

const REDUCTIONS = { Max: 'ReduceMax', Mean: 'ReduceMean', Min: 'ReduceMin', Sum: 'ReduceSum' } as const;

type Axes = number | number[];

/** The axes an attribute names: none means all, and negative ones count from the end. */
function reducedAxes(axis: Axes | undefined, rank: number): Set<number> {
  const axes = axis === undefined ? Array.from({ length: rank }, (_, i) => i) : [axis].flat();
  return new Set(axes.map((value) => (value < 0 ? value + rank : value)));
}

function reduction(operator: string): NativeKernel {
  return (call) => {
    const x = input(call, 'x');
    const attrs = call.attrs as { axis?: Axes; reductionIndices?: Axes; keepDims?: boolean };
    const { keepDims } = attrs;
    if (!isFloat(x) || sizeOf(x.shape) < WORTH_A_CALL) return undefined;
    const axes = reducedAxes(attrs.axis ?? attrs.reductionIndices, x.shape.length);
    const groups = mergeDimensions(
      x.shape,
      x.shape.map((_, i) => axes.has(i)),
    );
    if (!groups.some(({ key }) => key)) return undefined;
    const { backend } = call;
    const y = backend.output(
      keepDims ? x.shape.map((size, i) => (axes.has(i) ? 1 : size)) : x.shape.filter((_, i) => !axes.has(i)),
    );
    const pattern = groups.map(({ key }) => (key ? 'r' : 'k')).join('');
    const rank = groups.length;
    const graph = () => ({
      inputs: [{ name: 'x', rank }],
      outputs: [{ name: 'y', rank }],
      nodes: [node(operator, ['x', 'axes'], ['y'], { keepdims: 1 })],
      constants: [
        { name: 'axes', type: 'int64' as const, values: groups.flatMap(({ key }, i) => (key ? [i] : [])) },
      ],
    });
    const dims = groups.map(({ size }) => size);
    const reduced = groups.map(({ key, size }) => (key ? 1 : size));
    backend.run(
      `${operator}/${pattern}`,
      graph,
      { x: backend.onnx(x, dims) },
      { y: backend.onnx(y, reduced) },
    );
    return y;
  };
}

/** Over the last dimension, the only one tfjs supports. */
function softmax(call: KernelCall): TensorInfo | undefined {
  const x = input(call, 'logits');
  const size = sizeOf(x.shape);
  if (!isFloat(x) || size < WORTH_A_CALL) return undefined;
  const { backend } = call;
  const columns = x.shape.at(-1) ?? 1;
  const dims = [size / columns, columns];
  const y = backend.output(x.shape);
  const graph = () => ({
    inputs: [{ name: 'x', rank: 2 }],
    outputs: [{ name: 'y', rank: 2 }],
    nodes: [node('Softmax', ['x'], ['y'], { axis: -1 })],
  });
  backend.run('Softmax', graph, { x: backend.onnx(x, dims) }, { y: backend.onnx(y, dims) });
  return y;
}

export function reductionKernels(): Record<string, NativeKernel> {
  const kernels: Record<string, NativeKernel> = { Softmax: softmax };
  for (const [name, operator] of Object.entries(REDUCTIONS)) kernels[name] = reduction(operator);
  return kernels;
}
