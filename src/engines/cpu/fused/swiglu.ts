/** SwiGLU and its gradient; formulas in `ops/swiglu`. */
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { graph } from '../graph.js';

export const swiGlu: FusedKernel<'SwiGlu', CpuBackend> = ({ a, b }, _, backend) => {
  const y = backend.output(a.shape);
  const define = () =>
    graph((g) => {
      // x sigmoid(1 · x) is silu.
      const silu = g.own('QuickGelu', [g.input('a', 1)], { alpha: { float: 1 } });
      g.output('y', 1, g.op('Mul', [silu, g.input('b', 1)]));
    });
  const feeds = { a: backend.onnx(a, [a.size]), b: backend.onnx(b, [b.size]) };
  backend.run('SwiGlu', define, feeds, { y: backend.onnx(y, [a.size]) });
  return [y];
};

/** The slope of silu, s (1 + a (1 - s)), as s (1 + a - silu). */
export const swiGluGrad: FusedKernel<'SwiGluGrad', CpuBackend> = ({ dy, a, b }, _, backend) => {
  const [da, db] = [backend.output(a.shape), backend.output(b.shape)];
  const define = () =>
    graph((g) => {
      const [dy, a, b] = [g.input('dy', 1), g.input('a', 1), g.input('b', 1)] as const;
      const s = g.op('Sigmoid', [a]);
      const silu = g.op('Mul', [a, s]);
      g.output('db', 1, g.op('Mul', [dy, silu]));
      const rest = g.op('Add', [g.op('Sub', [a, silu]), g.scalar(1)]);
      const slope = g.op('Mul', [s, rest]);
      g.output('da', 1, g.op('Mul', [g.op('Mul', [dy, b]), slope]));
    });
  const dims = [a.size];
  const feeds = { dy: backend.onnx(dy, dims), a: backend.onnx(a, dims), b: backend.onnx(b, dims) };
  backend.run('SwiGluGrad', define, feeds, { da: backend.onnx(da, dims), db: backend.onnx(db, dims) });
  return [da, db];
};
