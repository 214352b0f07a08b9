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

/** Rows of the table, 0 to `count - 1`, for positions that each have their own. */
const rowNumbers = new Map<number, BigInt64Array>();

function numbersTo(count: number): BigInt64Array {
  const known = rowNumbers.get(count) ?? BigInt64Array.from({ length: count }, (_, i) => BigInt(i));
  rowNumbers.set(count, known);
  return known;
}

const FROM_FIRST_ROW = BigInt64Array.of(0n);

export const rotary: FusedKernel<'Rotary', CpuBackend> = ({ x }, attrs, backend) => {
  const [batch, time, heads, width] = x.shape as [number, number, number, number];
  const { runtime } = backend;
  const { style, inverse } = attrs;
  const ownPositions = attrs.positions !== null;
  const rows = ownPositions ? batch * time : time;
  const table = rotaryTable(attrs, rows);
  const y = backend.output(x.shape);
  const define = () =>
    graph((g) => {
      const tables = [g.input('cos', 2), g.input('sin', 2)];
      const inputs = [g.input('x', 3), g.input('row', ownPositions ? 2 : 1, 'int64'), ...tables];
      const attributes = { interleaved: style === 'interleaved' ? 1 : 0, num_heads: heads };
      g.output('y', 3, g.own('RotaryEmbedding', inputs, { ...attributes, rotary_embedding_dim: width }));
    });
  const dims = [batch, time, heads * width];
  const feeds = {
    x: backend.onnx(x, dims),
    row: ownPositions ? runtime.wrap(numbersTo(rows), [batch, time]) : runtime.wrap(FROM_FIRST_ROW, [1]),
    cos: runtime.wrap(table.cos, [rows, width / 2]),
    sin: runtime.wrap(sines(table, inverse), [rows, width / 2]),
  };
  const key = `Rotary/${style}/${heads}/${width}/${ownPositions ? 'positions' : 'start'}`;
  backend.run(key, define, feeds, { y: backend.onnx(y, dims) });
  return [y];
};
