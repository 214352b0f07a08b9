/**
 * The product of a row with a matrix, y += x weightᵀ, on the calling thread. A decoding step of a small model has a hundred of them, each
 * over in less time than it takes to enter ONNX Runtime and to wake its threads.
 */
import { encodeModule, f32x4, FunctionWriter, i32, type Local, v128 } from './assembler.js';
import type { SharedArena } from './arena.js';
import { sumRows } from './kernel.js';
import { WebAssembly } from './webassembly.js';

/** Elements of x, and of y, are multiples of these. */
export const [INNER_STEP, OUTER_STEP] = [16, 4] as const;

/** Addresses of weight [outer, inner], x [inner] and y [outer]; bytes of x and of y. */
export type RowProduct = (weight: number, x: number, y: number, inner: number, outer: number) => void;

export function rowProduct({ memory, maximum }: SharedArena): RowProduct {
  const f = new FunctionWriter(5);
  const [weight, x, y, inner, outer] = f.parameters as [Local, Local, Local, Local, Local];
  const row = f.address(weight.get);
  f.walk(y.get, outer.get, 4 * OUTER_STEP, (target) => {
    // One row after the other, so that memory is read in its order.
    const totals = Array.from({ length: OUTER_STEP }, () => {
      const sums = Array.from({ length: INNER_STEP / 4 }, () => f.vector(v128.zero));
      f.walk(x.get, inner.get, 4 * INNER_STEP, (at) => {
        for (const [i, sum] of sums.entries())
          f.emit(
            sum.set(f32x4.add(sum.get, f32x4.mul(v128.load(row.get, 16 * i), v128.load(at.get, 16 * i)))),
          );
        f.emit(row.set(i32.add(row.get, i32.const(4 * INNER_STEP))));
      });
      return f.vector(sums.map(({ get }) => get).reduce((a, b) => f32x4.add(a, b)));
    });
    f.emit(v128.store(target.get, f32x4.add(v128.load(target.get), sumRows(f, totals, f32x4.add))));
  });
  const module = new WebAssembly.Module(encodeModule(f, maximum));
  return new WebAssembly.Instance(module, { env: { memory } }).exports.run as RowProduct;
}
