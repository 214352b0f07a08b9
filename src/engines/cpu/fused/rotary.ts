/** Rotary position embedding; `ops/rotary`, from which the tables of phases come. */
import type { FusedKernel, RotaryStyle } from '../../../ops/kernels.js';
import { rotaryTable, type RotaryTable } from '../../../ops/rotary/phases.js';
import type { CpuBackend, Floats } from '../backend.js';
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

/** So many of one position are rotated here in less time than a call takes: those of a decoding step. */
const FEW_ELEMENTS = 1024;

function rotateFew(
  x: Floats,
  y: Floats,
  width: number,
  style: RotaryStyle,
  { cos, sin }: { readonly cos: Float32Array; readonly sin: Float32Array },
): void {
  const [step, apart] = style === 'interleaved' ? [2, 1] : [1, width / 2];
  for (let head = 0; head < x.length; head += width)
    for (let pair = 0; pair < width / 2; pair++) {
      const first = head + pair * step;
      const [a, b] = [x[first] as number, x[first + apart] as number];
      const [c, s] = [cos[pair] as number, sin[pair] as number];
      y[first] = a * c - b * s;
      y[first + apart] = b * c + a * s;
    }
}

export const rotary: FusedKernel<'Rotary', CpuBackend> = ({ x }, attrs, backend) => {
  const [batch, time, heads, width] = x.shape as [number, number, number, number];
  const { runtime } = backend;
  const { style, inverse } = attrs;
  const ownPositions = attrs.positions !== null;
  const rows = ownPositions ? batch * time : time;
  const table = rotaryTable(attrs, rows);
  const y = backend.output(x.shape);
  if (batch * time === 1 && heads * width <= FEW_ELEMENTS) {
    const phases = { cos: table.cos, sin: sines(table, inverse) };
    rotateFew(backend.floats(x), backend.floats(y), width, style, phases);
    return [y];
  }
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
