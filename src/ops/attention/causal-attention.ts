/** Causal softmax attention with grouped K/V heads and an optional window, in memory linear in the context. */
import * as tf from '../../tf.js';
import { differentiable, runKernel } from '../dispatch.js';
import type { CausalAttentionAttributes } from '../kernels.js';
import { limits } from '../limits.js';
import { sliceAxis } from '../reshape.js';
import { composeCausalAttentionGradient } from './causal-attention-gradient.js';
import {
  attendBlock,
  firstKey,
  groupRows,
  mask,
  queryBlocks,
  ungroupRows,
  type QueryBlock,
  type RunningSoftmax,
  visibilityOf,
  type Visibility,
} from './blocks.js';

export interface AttentionOptions {
  /** Positions a query sees, itself included; null or absent: all up to its own. */
  readonly window?: number | null;
  /** Factor of the scores; default D^-0.5. */
  readonly scale?: number;
  /** Position of every query, [B, Tq] row-major; default: the queries are the last Tq of the Tk positions. */
  readonly positions?: Int32Array | null;
}

/**
 * softmax(scale q kᵀ) v over the keys that each query sees; query head h reads K/V head floor(h / (Hq/Hkv)).
 * @param q [B, Tq, Hq, D]
 * @param k [B, Tk, Hkv, D]
 * @param v [B, Tk, Hkv, D]
 * @returns [B, Tq, Hq, D]
 */
export function causalAttention(
  q: tf.Tensor4D,
  k: tf.Tensor4D,
  v: tf.Tensor4D,
  options: AttentionOptions = {},
): tf.Tensor4D {
  const { window = null, scale = q.shape[3] ** -0.5, positions = null } = options;
  const attrs = { window, scale, positions };
  const [out] = differentiable({
    inputs: { q, k, v },
    forward: (save) => {
      const [out, logSumExp] = runKernel('CausalAttention', { q, k, v }, attrs, () =>
        composeCausalAttention(q, k, v, attrs),
      ) as [tf.Tensor, tf.Tensor];
      save([q, k, v, out, logSumExp]);
      return [out];
    },
    backward: ([dy], saved) => {
      const [q, k, v, out, logSumExp] = saved as [
        tf.Tensor4D,
        tf.Tensor4D,
        tf.Tensor4D,
        tf.Tensor4D,
        tf.Tensor3D,
      ];
      const inputs = { dy: dy as tf.Tensor4D, q, k, v, out, logSumExp };
      const [dq, dk, dv] = runKernel('CausalAttentionGrad', inputs, attrs, () =>
        composeCausalAttentionGradient(inputs, attrs),
      ) as [tf.Tensor, tf.Tensor, tf.Tensor];
      return { q: dq, k: dk, v: dv };
    },
  });
  return out as tf.Tensor4D;
}

/**
 * With plain ops: the output [B, Tq, Hq, D] and, for each query, the logarithm of the sum of the exponentials of its scores,
 * [B, Hq, Tq].
 */
export function composeCausalAttention(
  q: tf.Tensor4D,
  k: tf.Tensor4D,
  v: tf.Tensor4D,
  attrs: CausalAttentionAttributes,
): tf.Tensor[] {
  const visibility = visibilityOf(q, k, attrs);
  const [keys, values] = [tf.transpose(k, [0, 2, 1, 3]), tf.transpose(v, [0, 2, 1, 3])];
  const [, kvHeads] = keys.shape;
  const parts = queryBlocks(visibility, q.shape[2], Math.min(limits.keyBlock, k.shape[1])).map((block) => {
    const take = (x: tf.Tensor4D, start: number, length: number): tf.Tensor4D =>
      sliceAxis(x, 2, start, length);
    const blocks = keyRanges(block, attrs.window).map(([start, length]): KeyBlock => ({
      start,
      length,
      read: () => [take(keys, start, length), take(values, start, length)],
    }));
    return attendBlocks(q, kvHeads, visibility, block, attrs.scale, blocks);
  });
  const outputs = parts.map(([out]) => out);
  const logSumExps = parts.map(([, logSumExp]) => logSumExp);
  return [tf.concat(outputs, 1), tf.concat(logSumExps, 2)];
}

/** The keys that a block of queries sees, as runs [start, length]: those that all see first, then those beyond. */
function keyRanges(block: QueryBlock, window: number | null): [number, number][] {
  const ranges: [number, number][] = [];
  const add = (from: number, to: number): void => {
    for (let start = from; start < to; start += limits.keyBlock) {
      ranges.push([start, Math.min(limits.keyBlock, to - start)]);
    }
  };
  add(firstKey(block, window), block.first + 1);
  add(block.first + 1, block.last + 1);
  return ranges;
}

/** Keys and values [B, Hkv, length, D] of consecutive positions. */
export interface KeyBlock {
  readonly start: number;
  readonly length: number;
  read(): [tf.Tensor4D, tf.Tensor4D];
}

/** One block of queries against its keys: its rows of the output, [B, rows, Hq, D], and logSumExp, [B, Hq, rows]. */
export function attendBlocks(
  q: tf.Tensor4D,
  kvHeads: number,
  visibility: Visibility,
  block: QueryBlock,
  scale: number,
  keyBlocks: readonly KeyBlock[],
): [tf.Tensor4D, tf.Tensor] {
  const group = q.shape[2] / kvHeads;
  return tf.tidy(() => {
    const queries = tf.mul<tf.Tensor4D>(groupRows(q, kvHeads, block.start, block.length), scale);
    let state: RunningSoftmax | null = null;
    for (const keyBlock of keyBlocks) {
      const before: RunningSoftmax | null = state;
      state = tf.tidy(() => {
        const [keys, values] = keyBlock.read();
        const hidden = mask(visibility, block, group, keyBlock.start, keyBlock.length);
        return attendBlock(before, queries, keys, values, hidden);
      });
    }
    const [maximum, sum, values] = state as unknown as RunningSoftmax;
    const logSumExp = tf.add(maximum, tf.log(sum));
    const [batch, , heads] = q.shape;
    return [ungroupRows(tf.div(values, sum), group), tf.reshape(logSumExp, [batch, heads, block.length])];
  });
}
