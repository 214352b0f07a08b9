/** Products with weights kept as [out, in]; `ops/linear`. */
import type { OnnxTensor } from '../runtime.js';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { graph } from '../graph.js';
import { multiplyRow } from './linear-row.js';
import { rowsOf, withWidth } from './rows.js';

/** `Gemm` adds the residual while it computes the product. */
export const linear: FusedKernel<'Linear', CpuBackend> = (
  { x, weight, residual },
  { transposed },
  backend,
) => {
  const [rows, inner] = rowsOf(x);
  const width = weight.shape[transposed ? 1 : 0] ?? 1;
  const y = backend.output(withWidth(x, width));
  if (rows === 1 && !transposed && multiplyRow(backend, x, [weight], [y], residual)) return [y];
  const define = () =>
    graph((g) => {
      const inputs = [g.input('x', 2), g.input('weight', 2), ...(residual ? [g.input('residual', 2)] : [])];
      g.output('y', 2, g.op('Gemm', inputs, { transB: transposed ? 0 : 1 }));
    });
  const feeds: Record<string, OnnxTensor> = {
    x: backend.onnx(x, [rows, inner]),
    weight: backend.onnx(weight),
  };
  if (residual) feeds.residual = backend.onnx(residual, [rows, width]);
  const key = `Linear/${residual ? 'residual' : ''}/${transposed ? 'transposed' : ''}`;
  backend.run(key, define, feeds, { y: backend.onnx(y, [rows, width]) });
  return [y];
};

export const linearGroup: FusedKernel<'LinearGroup', CpuBackend> = (inputs, { count }, backend) => {
  const x = inputs.x as TensorInfo;
  const [rows, inner] = rowsOf(x);
  const weights = Array.from({ length: count }, (_, i) => inputs[`weight${i}`] as TensorInfo);
  const outputs = weights.map((weight) => backend.output(withWidth(x, weight.shape[0] ?? 1)));
  if (rows === 1 && multiplyRow(backend, x, weights, outputs)) return outputs;
  const define = () =>
    graph((g) => {
      const x = g.input('x', 2);
      for (let i = 0; i < count; i++)
        g.output(`y${i}`, 2, g.op('Gemm', [x, g.input(`weight${i}`, 2)], { transB: 1 }));
    });
  const feeds: Record<string, OnnxTensor> = { x: backend.onnx(x, [rows, inner]) };
  const fetches: Record<string, OnnxTensor> = {};
  for (const [i, weight] of weights.entries()) {
    feeds[`weight${i}`] = backend.onnx(weight);
    fetches[`y${i}`] = backend.onnx(outputs[i] as TensorInfo, [rows, weight.shape[0] ?? 1]);
  }
  backend.run(`LinearGroup/${count}`, define, feeds, fetches);
  return outputs;
};
