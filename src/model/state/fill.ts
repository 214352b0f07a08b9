/** Contexts that need not be computed: memory and time of a step depend on how many keys and values there are, not which. */
import * as tf from '../../tf.js';
import { DividedKeys } from './divided-keys.js';
import { type HeadShape, StoredMemory } from './pages.js';
import { type ModelCache, StateCache } from './state-cache.js';

/** Positions of all sequences appended at a time, and how many of a sequence differ. */
const [BLOCK, DISTINCT] = [8192, 256];

/** Appends random keys and values until the cache holds `length` tokens; states and windows stay as they are. */
export function fillCache(cache: ModelCache, length: number): void {
  if (!(cache instanceof StateCache)) throw new TypeError('the model keeps its cache elsewhere');
  if (cache.length >= length) return;
  const pages = cache.memories.filter(
    (memory) => memory instanceof StoredMemory || memory instanceof DividedKeys,
  );
  const [first] = pages;
  tf.tidy(() => {
    const most = Math.min(Math.max(DISTINCT, Math.floor(BLOCK / cache.batch)), length - cache.length);
    const block = first && randomBlock(cache.batch, most, first.headShape);
    while (cache.length < length) {
      const count = Math.min(most, length - cache.length);
      for (const memory of pages) memory.fill(block as tf.Tensor4D, count, cache.length);
      cache.length += count;
    }
  });
}

/** Of the shape that all layers share. */
function randomBlock(batch: number, most: number, { kvHeads, headDim }: HeadShape): tf.Tensor4D {
  const rows = tf.randomNormal<tf.Rank.R4>([batch, DISTINCT, kvHeads, headDim]);
  return tf.tile(rows, [1, Math.ceil(most / DISTINCT), 1, 1]);
}
