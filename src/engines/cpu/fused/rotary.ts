/** Rotary position embedding; `ops/rotary`, from which the tables of phases come. */
import type { FusedKernel } from '../../../ops/kernels.js';
import { rotaryTable, type RotaryTable } from '../../../ops/rotary/phases.js';
import type { CpuBackend } from '../backend.js';
import { graph } from '../graph.js';

/** Sines of the negative angles, for gradients. */
const negativeSines = new WeakMap<RotaryTable, Float32Array>();

function sines(table: RotaryTable, inverse: boolean): Float32Array {
  if (!inverse) return table.sin;
  const known = negativeSines.get(table) ?? table.sin.map((value) => -value);
  negativeSines.set(table, known);
  return known;
}

export const rotary: FusedKernel<'Rotary', CpuBackend> = ({ x }, attrs, backend) => {
  const [batch, time, heads, width] = x.shape as [number, number, number, number];
  const ownPositions = attrs.positions !== null;
  const rows = ownPositions ? batch * time : time;
  const table = rotaryTable(attrs, rows);
  const y = backend.output(x.shape);
  const define = () =>
    graph((g) => {
      const tables = [g.input('cos', 2), g.input('sin', 2)];
      const inputs = [g.input('x', 3), g.input('row', 2, 'int64'), ...tables];
      const interleaved = attrs.style === 'interleaved' ? 1 : 0;
      const attributes = { interleaved, num_heads: heads, rotary_embedding_dim: width };
      g.output('y', 3, g.own('RotaryEmbedding', inputs, attributes));
    });
  const dims = [batch, time, heads * width];
  const wrap = backend.runtime.wrap.bind(backend.runtime);
  const row = BigInt64Array.from({ length: batch * time }, (_, i) => BigInt(i % rows));
  const feeds = {
    x: backend.onnx(x, dims),
    row: wrap(row, [batch, time]),
    cos: wrap(table.cos, [rows, width / 2]),
    sin: wrap(sines(table, attrs.inverse), [rows, width / 2]),
  };
  backend.run(`Rotary/${attrs.style}/${heads}/${width}`, define, feeds, { y: backend.onnx(y, dims) });
  return [y];
};
