/** Writing rows into a page of keys and one of values, in place; `ops/kernels.ts`, PageWrite. */
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';

export const pageWrite: FusedKernel<'PageWrite', CpuBackend> = (
  { keyPage, valuePage, keys, values },
  { position, start, count },
  backend,
) => {
  const [batch, heads, pageSize, width] = keyPage.shape as [number, number, number, number];
  const time = keys.shape[1] as number;
  for (const [page, rows] of [
    [keyPage, keys],
    [valuePage, values],
  ] as const) {
    const [source, target] = [backend.floats(rows), backend.mutableFloats(page)];
    for (let b = 0; b < batch; b++)
      for (let h = 0; h < heads; h++)
        for (let t = 0; t < count; t++) {
          const from = ((b * time + start + t) * heads + h) * width;
          const to = ((b * heads + h) * pageSize + position + t) * width;
          target.set(source.subarray(from, from + width), to);
        }
  }
  return [];
};
