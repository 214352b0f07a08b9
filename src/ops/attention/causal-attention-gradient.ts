/**
 * The gradient of `CausalAttention`, recomputing the weights block by block from logSumExp (FlashAttention-2, arXiv
 * 2307.08691): with P the weights, dV = Pᵀ dO, dP = dO Vᵀ, dS = P ∘ (dP - rowsum(dO ∘ O)), dQ = scale dS K and
 * dK = scale dSᵀ Q.
 */
import * as tf from '../../tf.js';
import type { CausalAttentionAttributes } from '../kernels.js';
import { limits } from '../limits.js';
import { sliceAxis } from '../reshape.js';
import {
  firstKey,
  groupRows,
  mask,
  queryBlocks,
  visibilityOf,
  ungroupRows,
  type QueryBlock,
  type Visibility,
} from './blocks.js';

export interface CausalAttentionResult {
  readonly dy: tf.Tensor4D;
  readonly q: tf.Tensor4D;
  readonly k: tf.Tensor4D;
  readonly v: tf.Tensor4D;
  readonly out: tf.Tensor4D;
  readonly logSumExp: tf.Tensor3D;
}

/** Keys and values of one block of positions, and their gradients so far, all [B, Hkv, n, D]. */
interface KeyGradients {
  readonly start: number;
  readonly keys: tf.Tensor4D;
  readonly values: tf.Tensor4D;
  dKeys: tf.Tensor4D;
  dValues: tf.Tensor4D;
}

export function composeCausalAttentionGradient(
  saved: CausalAttentionResult,
  attrs: CausalAttentionAttributes,
): tf.Tensor[] {
  const { q, k } = saved;
  const visibility = visibilityOf(q, k, attrs);
  const keyBlocks = splitKeys(saved);
  const dQueries = queryBlocks(visibility, q.shape[2], Math.min(limits.keyBlock, k.shape[1])).map((block) =>
    queryBlockGradient(saved, attrs, visibility, block, keyBlocks),
  );
  const join = (parts: tf.Tensor4D[]): tf.Tensor => tf.transpose(tf.concat(parts, 2), [0, 2, 1, 3]);
  const gradients = [
    tf.concat(dQueries, 1),
    join(keyBlocks.map(({ dKeys }) => dKeys)),
    join(keyBlocks.map(({ dValues }) => dValues)),
  ];
  for (const { dKeys, dValues } of keyBlocks) tf.dispose([dKeys, dValues]);
  return gradients;
}

function splitKeys({ q, k, v }: CausalAttentionResult): KeyGradients[] {
  // Blocks as wide as those of the queries leave out most of what causality hides.
  const most = q.shape[1] > limits.queryBlock ? limits.queryBlock : limits.keyBlock;
  const [, length] = k.shape;
  const take = (x: tf.Tensor4D, start: number, rows: number): tf.Tensor4D =>
    tf.transpose(sliceAxis(x, 1, start, rows), [0, 2, 1, 3]);
  const blocks: KeyGradients[] = [];
  for (let start = 0; start < length; start += most) {
    const rows = Math.min(most, length - start);
    const keys = take(k, start, rows);
    blocks.push({
      start,
      keys,
      values: take(v, start, rows),
      dKeys: tf.zerosLike(keys),
      dValues: tf.zerosLike(keys),
    });
  }
  return blocks;
}

/** Adds what a block of queries contributes to the gradients of the keys; the gradient of the queries [B, rows, Hq, D]. */
function queryBlockGradient(
  { dy, q, k, out, logSumExp }: CausalAttentionResult,
  { scale, window }: CausalAttentionAttributes,
  visibility: Visibility,
  block: QueryBlock,
  keyBlocks: KeyGradients[],
): tf.Tensor4D {
  const [batch, , heads] = q.shape;
  const kvHeads = k.shape[2];
  const group = heads / kvHeads;
  const { start, length } = block;
  const from = firstKey(block, window);
  return tf.tidy(() => {
    const queries = tf.mul<tf.Tensor4D>(groupRows(q, kvHeads, start, length), scale);
    const dOut = groupRows(dy, kvHeads, start, length);
    const along: tf.Tensor4D = tf.sum(tf.mul(dOut, groupRows(out, kvHeads, start, length)), -1, true);
    const normaliser = tf.reshape<tf.Rank.R4>(sliceAxis(logSumExp, 2, start, length), [
      batch,
      kvHeads,
      group * length,
      1,
    ]);
    let dQueries: tf.Tensor4D = tf.zerosLike(queries);
    for (const keyBlock of keyBlocks) {
      const rows = keyBlock.keys.shape[2];
      if (keyBlock.start > block.last || keyBlock.start + rows <= from) continue;
      const hidden = mask(visibility, block, group, keyBlock.start, rows);
      dQueries = step(dQueries, keyBlock, { queries, dOut, along, normaliser, hidden });
    }
    return ungroupRows(tf.mul(dQueries, scale), group);
  });
}

interface QueryRows {
  readonly queries: tf.Tensor4D;
  readonly dOut: tf.Tensor4D;
  readonly along: tf.Tensor4D;
  readonly normaliser: tf.Tensor4D;
  readonly hidden: tf.Tensor4D | null;
}

/** One block of queries against one block of keys: dQueries so far plus its part; updates the gradients of the keys. */
function step(dQueries: tf.Tensor4D, block: KeyGradients, rows: QueryRows): tf.Tensor4D {
  const [dQuery, dKeys, dValues] = tf.tidy((): [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D] => {
    const product = tf.matMul(rows.queries, block.keys, false, true);
    const scores = rows.hidden ? tf.add<tf.Tensor4D>(product, rows.hidden) : product;
    const weights = tf.exp(tf.sub<tf.Tensor4D>(scores, rows.normaliser));
    const dWeights = tf.matMul(rows.dOut, block.values, false, true);
    const dScores = tf.mul<tf.Tensor4D>(weights, tf.sub(dWeights, rows.along));
    return [
      tf.add<tf.Tensor4D>(dQueries, tf.matMul(dScores, block.keys)),
      tf.add<tf.Tensor4D>(block.dKeys, tf.matMul(dScores, rows.queries, true, false)),
      tf.add<tf.Tensor4D>(block.dValues, tf.matMul(weights, rows.dOut, true, false)),
    ];
  });
  tf.dispose([dQueries, block.dKeys, block.dValues]);
  // The gradients of the keys outlive the tidy of this block of queries.
  block.dKeys = tf.keep(dKeys);
  block.dValues = tf.keep(dValues);
  return dQuery;
}
