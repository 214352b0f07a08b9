/** Element-wise kernels: one ONNX operator (or a few) per tfjs kernel, operands broadcast by ONNX Runtime. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CpuBackend } from '../backend.js';
import { graph, type GraphBuilder } from '../graph.js';
import { node, type ElementType, type Node } from '../onnx.js';
import {
  allInputs,
  input,
  isFloat,
  type KernelCall,
  type NativeKernel,
  sizeOf,
  WORTH_A_CALL,
} from './call.js';
import { broadcastShape, collapseBroadcast } from './shapes.js';

/** Reciprocal square root and others that ONNX has no single operator for, or no precise one. */
const UNARY_GRAPHS: Readonly<Record<string, (g: GraphBuilder, x: string) => string>> = {
  Rsqrt: (g, x) => g.op('Reciprocal', [g.op('Sqrt', [x])]),
  Sigmoid: (g, x) => g.sigmoid(x),
  Square: (g, x) => g.op('Mul', [x, x]),
};
const UNARY_OPERATORS = [
  'Abs', 'Cos', 'Erf', 'Exp', 'Floor', 'Log', 'Neg', 'Reciprocal', 'Relu', 'Sign', 'Sin', 'Softplus', 'Sqrt', 'Tanh',
] as const; // prettier-ignore

/** tfjs kernel → ONNX operator, float32 results. */
const BINARY_OPERATORS = {
  Add: 'Add', Maximum: 'Max', Minimum: 'Min', Multiply: 'Mul', Pow: 'Pow', RealDiv: 'Div', Sub: 'Sub',
} as const; // prettier-ignore
/** tfjs kernel → ONNX operator, boolean results. */
const COMPARISONS = {
  Equal: 'Equal', Greater: 'Greater', GreaterEqual: 'GreaterOrEqual', Less: 'Less', LessEqual: 'LessOrEqual',
} as const; // prettier-ignore

function unary(name: string, write: (g: GraphBuilder, x: string) => string): NativeKernel {
  return (call) => {
    const x = input(call, 'x');
    const size = sizeOf(x.shape);
    if (!isFloat(x) || size < WORTH_A_CALL) return undefined;
    const { backend } = call;
    const y = backend.output(x.shape);
    const define = () =>
      graph((g) => {
        g.output('y', 1, write(g, g.input('x', 1)));
      });
    backend.run(name, define, { x: backend.onnx(x, [size]) }, { y: backend.onnx(y, [size]) });
    return y;
  };
}

/** Runs `nodes`, which make `y` of `a` and `b`, over the broadcast operands. */
function runBinary(
  backend: CpuBackend,
  name: string,
  nodes: readonly Node[],
  operands: readonly [TensorInfo, TensorInfo],
  y: TensorInfo,
): void {
  const [a, b] = operands;
  const collapsed = collapseBroadcast([a.shape, b.shape], y.shape);
  const rank = collapsed.result.length;
  const type: ElementType = y.dtype === 'bool' ? 'bool' : 'float32';
  const define = () => ({
    inputs: [
      { name: 'a', rank },
      { name: 'b', rank },
    ],
    outputs: [{ name: 'y', rank, type }],
    nodes,
  });
  const [aDims, bDims] = collapsed.operands;
  const feeds = { a: backend.onnx(a, aDims), b: backend.onnx(b, bDims) };
  backend.run(`${name}/${rank}`, define, feeds, { y: backend.onnx(y, collapsed.result) });
}

function binary(name: string, nodes: readonly Node[], result: 'float32' | 'bool'): NativeKernel {
  return (call) => {
    const [a, b] = [input(call, 'a'), input(call, 'b')];
    const shape = broadcastShape(a.shape, b.shape);
    const size = sizeOf(shape);
    if (!isFloat(a, b) || size < WORTH_A_CALL) return undefined;
    const y =
      result === 'float32'
        ? call.backend.output(shape)
        : call.backend.makeTensorInfo(shape, 'bool', new Uint8Array(size));
    runBinary(call.backend, name, nodes, [a, b], y);
    return y;
  };
}

/** Sum of any number of tensors of one shape. */
function addN(call: KernelCall): TensorInfo | undefined {
  const { backend } = call;
  const terms = allInputs(call);
  const [first] = terms;
  if (!first || !isFloat(...terms) || sizeOf(first.shape) < WORTH_A_CALL) return undefined;
  const names = terms.map((_, i) => `x${i}`);
  const size = sizeOf(first.shape);
  const y = backend.output(first.shape);
  const define = () => ({
    inputs: names.map((name) => ({ name, rank: 1 })),
    outputs: [{ name: 'y', rank: 1 }],
    nodes: [node('Sum', names, ['y'])],
  });
  const feeds = Object.fromEntries(terms.map((term, i) => [`x${i}`, backend.onnx(term, [size])]));
  backend.run(`AddN/${terms.length}`, define, feeds, { y: backend.onnx(y, [size]) });
  return y;
}

/** `condition ? t : e`; tfjs has already broadcast the three to one shape, or the condition is a vector of rows. */
function select(call: KernelCall): TensorInfo | undefined {
  const [condition, t, e] = [input(call, 'condition'), input(call, 't'), input(call, 'e')];
  const size = sizeOf(t.shape);
  if (!isFloat(t, e) || condition.dtype !== 'bool' || size < WORTH_A_CALL) return undefined;
  const { backend } = call;
  const rows = sizeOf(condition.shape);
  const y = backend.output(t.shape);
  const define = () => ({
    inputs: [
      { name: 'c', rank: 2, type: 'bool' as const },
      { name: 't', rank: 2 },
      { name: 'e', rank: 2 },
    ],
    outputs: [{ name: 'y', rank: 2 }],
    nodes: [node('Where', ['c', 't', 'e'], ['y'])],
  });
  const dims = [rows, size / rows];
  const feeds = { c: backend.onnx(condition, [rows, 1]), t: backend.onnx(t, dims), e: backend.onnx(e, dims) };
  backend.run('Select', define, feeds, { y: backend.onnx(y, dims) });
  return y;
}

export function elementwiseKernels(): Record<string, NativeKernel> {
  const kernels: Record<string, NativeKernel> = { AddN: addN, Select: select };
  for (const name of UNARY_OPERATORS) kernels[name] = unary(name, (g, x) => g.op(name, [x]));
  for (const [name, write] of Object.entries(UNARY_GRAPHS)) kernels[name] = unary(name, write);
  for (const [name, operator] of Object.entries(BINARY_OPERATORS))
    kernels[name] = binary(name, [node(operator, ['a', 'b'], ['y'])], 'float32');
  for (const [name, operator] of Object.entries(COMPARISONS))
    kernels[name] = binary(name, [node(operator, ['a', 'b'], ['y'])], 'bool');
  const difference = [node('Sub', ['a', 'b'], ['d']), node('Mul', ['d', 'd'], ['y'])];
  kernels.SquaredDifference = binary('SquaredDifference', difference, 'float32');
  return kernels;
}
