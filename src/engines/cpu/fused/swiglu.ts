/** SwiGLU and its gradient; formulas in `ops/swiglu`. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { graph } from '../graph.js';
import { inTiles } from './rows.js';

export const swiGlu: FusedKernel<'SwiGlu', CpuBackend> = ({ a, b }, _, backend) => {
  const y = backend.output(a.shape);
  const define = () =>
    graph((g) => {
      const [a, b] = [g.input('a', 1), g.input('b', 1)] as const;
      g.output('y', 1, g.op('Mul', [g.op('Mul', [a, g.sigmoid(a)]), b]));
    });
  inTiles(a.size, 1, (from, to) => {
    const part = (x: TensorInfo) => backend.part(x, [to - from], from);
    backend.run('SwiGlu', define, { a: part(a), b: part(b) }, { y: part(y) });
  });
  return [y];
};

/** The slope of silu, s (1 + a (1 - s)), as s (1 + a - silu). */
export const swiGluGrad: FusedKernel<'SwiGluGrad', CpuBackend> = ({ dy, a, b }, _, backend) => {
  const [da, db] = [backend.output(a.shape), backend.output(b.shape)];
  const define = () =>
    graph((g) => {
      const [dy, a, b] = [g.input('dy', 1), g.input('a', 1), g.input('b', 1)] as const;
      const s = g.sigmoid(a);
      const silu = g.op('Mul', [a, s]);
      g.output('db', 1, g.op('Mul', [dy, silu]));
      const rest = g.op('Add', [g.op('Sub', [a, silu]), g.scalar(1)]);
      const slope = g.op('Mul', [s, rest]);
      g.output('da', 1, g.op('Mul', [g.op('Mul', [dy, b]), slope]));
    });
  inTiles(a.size, 1, (from, to) => {
    const part = (x: TensorInfo) => backend.part(x, [to - from], from);
    const feeds = { dy: part(dy), a: part(a), b: part(b) };
    backend.run('SwiGluGrad', define, feeds, { da: part(da), db: part(db) });
  });
  return [da, db];
};
