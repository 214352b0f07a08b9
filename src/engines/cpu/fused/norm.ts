/** RMSNorm and its gradient; formulas in `ops/rms-norm`. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import { graph } from '../graph.js';
import type { Graph } from '../onnx.js';
import { inTiles, rowsOf } from './rows.js';

export const rmsNorm: FusedKernel<'RmsNorm', CpuBackend> = ({ x, weight }, { eps }, backend) => {
  const [rows, width] = rowsOf(x);
  const y = backend.output(x.shape);
  if (rows * width <= FEW_ELEMENTS) {
    normalizeFew(backend.floats(x), weight && backend.floats(weight), backend.floats(y), { width, eps });
    return [y];
  }
  const define = () =>
    graph((g) => {
      const inputs = [g.input('x', 2), g.input('weight', 1)];
      const attributes = { axis: -1, epsilon: { float: eps } };
      g.output('y', 2, g.op('SimplifiedLayerNormalization', inputs, attributes));
    });
  const factors = weight ? backend.onnx(weight) : backend.ones(width);
  const feeds = { x: backend.onnx(x, [rows, width]), weight: factors };
  backend.run(`RmsNorm/${eps}`, define, feeds, { y: backend.onnx(y, [rows, width]) });
  return [y];
};

/** So many are done here in less time than a call takes: those of a decoding step. */
const FEW_ELEMENTS = 1024;

function normalizeFew(
  x: Floats,
  weight: Floats | undefined,
  y: Floats,
  { width, eps }: { readonly width: number; readonly eps: number },
): void {
  for (let row = 0; row < x.length; row += width) {
    let sum = 0;
    for (let i = row; i < row + width; i++) sum += (x[i] as number) ** 2;
    const factor = 1 / Math.sqrt(sum / width + eps);
    for (let i = 0; i < width; i++)
      y[row + i] = (x[row + i] as number) * factor * (weight ? (weight[i] as number) : 1);
  }
}

/**
 * With r the inverse RMS of a row and p = dy x: dx = r (dy weight - x r² mean(p weight)) and dWeight = Σ rows r p.
 * The mean and the sum are products of p with a vector, which need no pass of their own over the elements.
 */
function gradientGraph(eps: number, weighted: boolean): Graph {
  return graph((g) => {
    const [dy, x, weight] = [g.input('dy', 2), g.input('x', 2), g.input('weight', 1)] as const;
    const inverseWidth = g.input('inverseWidth', 1);
    const sumOfSquares = g.op('ReduceSumSquare', [x, g.integers(1)], { keepdims: 1 });
    const meanSquare = g.op('Mul', [sumOfSquares, inverseWidth]);
    const rms = g.op('Sqrt', [g.op('Add', [meanSquare, g.scalar(eps)])]);
    const p = g.op('Mul', [dy, x]);
    const along = g.product(p, g.op('Unsqueeze', [weight, g.integers(1)]));
    const mean = g.op('Mul', [along, inverseWidth]);
    const scale = g.op('Div', [mean, g.op('Mul', [rms, rms])]);
    const dNormed = weighted ? g.op('Mul', [dy, weight]) : dy;
    const difference = g.op('Sub', [dNormed, g.op('Mul', [x, scale])]);
    g.output('dx', 2, g.op('Div', [difference, rms]));
    if (weighted) g.output('dWeight', 2, g.product(g.op('Reciprocal', [rms]), p, { transA: 1 }));
  });
}

export const rmsNormGrad: FusedKernel<'RmsNormGrad', CpuBackend> = ({ dy, x, weight }, { eps }, backend) => {
  const [rows, width] = rowsOf(x);
  const dx = backend.output(x.shape);
  const dWeight = weight && backend.output([width]);
  const sum = new Float64Array(width);
  const partial = new Float32Array(width);
  const constants = {
    weight: weight ? backend.onnx(weight) : backend.ones(width),
    inverseWidth: backend.runtime.wrap(Float32Array.of(1 / width), [1]),
  };
  inTiles(rows, width, (from, to) => {
    const part = (tensor: TensorInfo) => backend.part(tensor, [to - from, width], from * width);
    const feeds = { dy: part(dy), x: part(x), ...constants };
    const fetches = { dx: part(dx), ...(dWeight && { dWeight: backend.runtime.wrap(partial, [1, width]) }) };
    const define = () => gradientGraph(eps, dWeight !== undefined);
    backend.run(`RmsNormGrad/${eps}/${dWeight ? 'weight' : ''}`, define, feeds, fetches);
    for (let i = 0; i < width; i++) sum[i] = (sum[i] as number) + (partial[i] as number);
  });
  if (!dWeight) return [dx];
  backend.floats(dWeight).set(sum);
  return [dx, dWeight];
};
