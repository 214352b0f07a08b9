/** Writing rows into a page of keys and one of values, in place; `ops/kernels.ts`, PageWrite. */
import type { FusedKernel, PageWriteAttributes } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';

export const pageWrite: FusedKernel<'PageWrite', CpuBackend> = (
  { keyPage, valuePage, keys, values },
  attrs,
  backend,
) => {
  const sizes = { page: keyPage.shape, time: keys.shape[1] as number };
  writeRows(backend.floats(keys), backend.mutableFloats(keyPage), sizes, attrs);
  writeRows(backend.floats(values), backend.mutableFloats(valuePage), sizes, attrs);
  return [];
};

/** @param sizes dimensions of the page, and positions of the rows */
export function writeRows(
  source: Float32Array,
  target: Float32Array,
  sizes: { readonly page: readonly number[]; readonly time: number },
  { position, start, count }: PageWriteAttributes,
): void {
  const [batch, heads, pageSize, width] = sizes.page as [number, number, number, number];
  for (let b = 0; b < batch; b++)
    for (let h = 0; h < heads; h++)
      for (let t = 0; t < count; t++) {
        const from = ((b * sizes.time + start + t) * heads + h) * width;
        const to = ((b * heads + h) * pageSize + position + t) * width;
        target.set(source.subarray(from, from + width), to);
      }
}
