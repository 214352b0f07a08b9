import { LayerCache, type ModelCache } from '../../src/model/cache.js';
import type { LanguageModel } from '../../src/model/index.js';
import { KeyValuePages } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';

const BLOCK = 8192;

/** A cache as `fill` wants it. */
export function layerCache(cache: ModelCache): LayerCache {
  if (!(cache instanceof LayerCache)) throw new Error('the model keeps its cache elsewhere');
  return cache;
}

/** Appends random keys and values to every set of pages until the cache holds `length` tokens; states stay. */
export function fill(model: LanguageModel, cache: LayerCache, length: number): void {
  const { kvHeads, dim, heads } = model.config;
  while (cache.length < length) {
    const count = Math.min(BLOCK, length - cache.length);
    tf.tidy(() => {
      const rows = tf.randomNormal<tf.Rank.R4>([1, 256, kvHeads, dim / heads]);
      const tiled = tf.tile(rows, [1, Math.ceil(count / 256), 1, 1]);
      const block = tf.slice(tiled, [0, 0, 0, 0], [1, count, kvHeads, dim / heads]);
      for (const memory of cache.memories) if (memory instanceof KeyValuePages) memory.append(block, block);
    });
    cache.length += count;
  }
}
