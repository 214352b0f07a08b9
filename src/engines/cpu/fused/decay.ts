/** The logarithm of gated retention's decay, log sigmoid(x) / normalizer = -softplus(-x) / normalizer. */
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { graph } from '../graph.js';

export const logDecay: FusedKernel<'LogDecay', CpuBackend> = ({ x }, { normalizer }, backend) => {
  const y = backend.output(x.shape);
  const define = () =>
    graph((g) => {
      const softplus = g.op('Softplus', [g.op('Neg', [g.input('x', 1)])]);
      g.output('y', 1, g.op('Mul', [softplus, g.scalar(-1 / normalizer)]));
    });
  backend.run(
    `LogDecay/${normalizer}`,
    define,
    { x: backend.onnx(x, [x.size]) },
    { y: backend.onnx(y, [x.size]) },
  );
  return [y];
};

export const logDecayGrad: FusedKernel<'LogDecayGrad', CpuBackend> = ({ dy, x }, { normalizer }, backend) => {
  const dx = backend.output(x.shape);
  const define = () =>
    graph((g) => {
      const slope = g.sigmoid(g.op('Neg', [g.input('x', 1)]));
      const scaled = g.op('Mul', [g.input('dy', 1), g.scalar(1 / normalizer)]);
      g.output('dx', 1, g.op('Mul', [scaled, slope]));
    });
  const dims = [x.size];
  const feeds = { dy: backend.onnx(dy, dims), x: backend.onnx(x, dims) };
  backend.run(`LogDecayGrad/${normalizer}`, define, feeds, { dx: backend.onnx(dx, dims) });
  return [dx];
};
