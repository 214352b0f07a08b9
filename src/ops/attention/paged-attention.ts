/** Causal attention of new queries over a paged cache. For inference: it records no gradient. */
import * as tf from '../../tf.js';
import { runKernel } from '../dispatch.js';
import { sliceAxis } from '../reshape.js';
import { firstKey, queryBlocks, type Visibility } from './blocks.js';
import { attendBlocks, type AttentionOptions, type KeyBlock } from './causal-attention.js';
import { rotary, rotationAttributes, type RotaryOptions } from '../rotary/rotary.js';
import type { KeyValuePages } from './key-value-pages.js';

export interface PagedAttentionOptions extends Omit<AttentionOptions, 'positions'> {
  /** Rotates q first, by `rotary`; null or absent: not at all. */
  readonly rotation?: RotaryOptions | null;
}

/**
 * @param q [B, Tq, Hq, D]: the queries of the last Tq positions that the pages hold
 * @returns [B, Tq, Hq, D]
 */
export function pagedAttention(
  q: tf.Tensor4D,
  pages: KeyValuePages,
  options: PagedAttentionOptions = {},
): tf.Tensor4D {
  const { window = null, scale = q.shape[3] ** -0.5, rotation = null } = options;
  const { length, pageSize } = pages;
  const inputs = pagedInputs(q, pages);
  const attrs = { window, scale, length, pageSize };
  if (rotation === null) {
    const [out] = runKernel('PagedAttention', inputs, attrs, () => [compose(q, pages, window, scale)]);
    return out as tf.Tensor4D;
  }
  const apart = (): tf.Tensor[] => [pagedAttention(rotary(q, rotation), pages, { window, scale })];
  // Kernels rotate only rows that follow each other.
  if ((rotation.positions ?? null) !== null) return tf.tidy(apart)[0] as tf.Tensor4D;
  const rotated = { ...attrs, rotation: rotationAttributes(rotation) };
  return runKernel('RotatedPagedAttention', inputs, rotated, apart)[0] as tf.Tensor4D;
}

/** What the kernels of attention over pages take. */
export function pagedInputs(q: tf.Tensor4D, { pages }: KeyValuePages): Record<string, tf.Tensor> {
  const inputs: Record<string, tf.Tensor> = { q };
  for (const [i, { key, value }] of pages.entries()) {
    inputs[`key${i}`] = key;
    inputs[`value${i}`] = value;
  }
  return inputs;
}

function compose(q: tf.Tensor4D, pages: KeyValuePages, window: number | null, scale: number): tf.Tensor4D {
  const [batch, queries, heads] = q.shape;
  const { length, pageSize } = pages;
  const { kvHeads } = pages.options;
  const visibility: Visibility = { positions: null, window, batch, queries, keys: length };
  const read = (index: number, rows: number): [tf.Tensor4D, tf.Tensor4D] => {
    const page = pages.pages[index];
    if (!page) throw new RangeError(`page ${index} of ${pages.pages.length}`);
    const take = (x: tf.Tensor4D): tf.Tensor4D => sliceAxis(x, 2, 0, rows);
    return [take(page.key), take(page.value)];
  };
  const parts = queryBlocks(visibility, heads, Math.min(pageSize, length)).map((block) => {
    const blocks: KeyBlock[] = [];
    for (let i = Math.floor(firstKey(block, window) / pageSize); i * pageSize <= block.last; i++) {
      const start = i * pageSize;
      const rows = Math.min(pageSize, length - start);
      blocks.push({ start, length: rows, read: () => read(i, rows) });
    }
    return attendBlocks(q, kvHeads, visibility, block, scale, blocks)[0];
  });
  return tf.concat(parts, 1);
}
