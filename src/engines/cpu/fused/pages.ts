/** Writing rows into a page of keys or values, in place; `ops/kernels.ts`, PageWrite. */
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';

export const pageWrite: FusedKernel<'PageWrite', CpuBackend> = (
  { page, rows },
  { position, start, count },
  backend,
) => {
  const [batch, heads, pageSize, width] = page.shape as [number, number, number, number];
  const time = rows.shape[1] as number;
  const [source, target] = [backend.floats(rows), backend.mutableFloats(page)];
  for (let b = 0; b < batch; b++)
    for (let h = 0; h < heads; h++)
      for (let t = 0; t < count; t++) {
        const from = ((b * time + start + t) * heads + h) * width;
        const to = ((b * heads + h) * pageSize + position + t) * width;
        target.set(source.subarray(from, from + width), to);
      }
  return [];
};
