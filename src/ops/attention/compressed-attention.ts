/** Causal attention of new queries over a compressed cache. For inference: it records no gradient. */
import * as tf from '../../tf.js';
import { runKernel } from '../dispatch.js';
import { sliceAxis } from '../reshape.js';
import { rotary, type RotaryOptions } from '../rotary/rotary.js';
import { GROUP, type CacheType } from './cache-type.js';
import { causalAttention } from './causal-attention.js';
import { decodeGroup, groupOf, type Kind } from './codes.js';
import type { CodePage } from './code-page.js';
import type { CompressedPages } from './compressed-pages.js';

export interface CompressedAttentionOptions {
  readonly scale?: number;
  /** Rotates q first, by `rotary`; null or absent: not at all. */
  readonly rotation?: RotaryOptions | null;
}

/**
 * @param q [B, Tq, Hq, D]: the queries of the last Tq positions, all of the last `append` or in the newest group
 * @returns [B, Tq, Hq, D]
 */
export function compressedAttention(
  q: tf.Tensor4D,
  pages: CompressedPages,
  { scale = q.shape[3] ** -0.5, rotation = null }: CompressedAttentionOptions = {},
): tf.Tensor4D {
  const { raw, type, length, pageSize, coded } = pages;
  const first = length - q.shape[1];
  if (first < raw.start)
    throw new RangeError(`position ${first} is not among the newest: they begin at ${raw.start}`);
  return tf.tidy(() => {
    const queries = rotation === null ? q : rotary(q, rotation);
    const inputs: Record<string, tf.Tensor> = { q: queries, rawKeys: raw.key, rawValues: raw.value };
    for (const [i, page] of pages.pages.entries()) {
      if (i * pageSize >= coded) break;
      for (const [name, tensor] of Object.entries(page)) inputs[`${name}${i}`] = tensor as tf.Tensor;
    }
    const attrs = { type, scale, length, pageSize, rawStart: raw.start, rawRow: raw.row, isRing: raw.isRing };
    return runKernel('CompressedAttention', inputs, attrs, () => [
      compose(queries, pages, scale),
    ])[0] as tf.Tensor4D;
  });
}

/** Group by group: its queries see what is coded before it, and itself as computed. */
function compose(q: tf.Tensor4D, pages: CompressedPages, scale: number): tf.Tensor4D {
  const { raw, length } = pages;
  const parts: tf.Tensor4D[] = [];
  for (let position = length - q.shape[1]; position < length;) {
    const start = Math.floor(position / GROUP) * GROUP;
    const end = Math.min(start + GROUP, length);
    const seen = (kind: Kind): tf.Tensor4D => {
      const own = sliceAxis(raw[kind], 2, raw.row + start - raw.start, end - start);
      const earlier = start === 0 ? [] : [decoded(pages, kind, start)];
      return tf.transpose(tf.concat([...earlier, own], 2), [0, 2, 1, 3]);
    };
    const queries = sliceAxis(q, 1, position - (length - q.shape[1]), end - position);
    parts.push(causalAttention(queries, seen('key'), seen('value'), { scale }));
    position = end;
  }
  return parts.length === 1 ? (parts[0] as tf.Tensor4D) : tf.concat(parts, 1);
}

/** The keys or values of the first `count` positions, [B, Hkv, count, D]. */
function decoded(
  { pages, pageSize, type, options }: CompressedPages,
  kind: Kind,
  count: number,
): tf.Tensor4D {
  const { batch, kvHeads, headDim } = options;
  const rows = new Float32Array(batch * kvHeads * count * headDim);
  for (const [i, page] of pages.slice(0, Math.ceil(count / pageSize)).entries()) {
    const words = wordsOf(page, kind);
    for (let head = 0; head < batch * kvHeads; head++)
      for (let at = i * pageSize; at < Math.min(count, (i + 1) * pageSize); at += GROUP) {
        const group = {
          head,
          group: (at - i * pageSize) / GROUP,
          pageGroups: pageSize / GROUP,
          width: headDim,
        };
        const from = (head * count + at) * headDim;
        decodeInto(type, kind, words, group, rows.subarray(from, from + GROUP * headDim));
      }
  }
  return tf.tensor4d(rows, [batch, kvHeads, count, headDim]);
}

function decodeInto(
  type: CacheType,
  kind: Kind,
  words: { codes: Int32Array; scales: Int32Array },
  at: Parameters<typeof groupOf>[3],
  rows: Float32Array,
): void {
  decodeGroup(type, kind, groupOf(type, kind, words, at), rows);
}

function wordsOf(page: CodePage, kind: Kind): { codes: Int32Array; scales: Int32Array } {
  const scales = page[`${kind}Scales`];
  return {
    codes: page[`${kind}Codes`].dataSync<'int32'>(),
    scales: scales ? scales.dataSync<'int32'>() : new Int32Array(0),
  };
}
