/** A page of a compressed cache, and its coding by the reference. */
import * as tf from '../../tf.js';
import type { CompressAttributes } from '../kernels.js';
import { type CacheType, codeWords, GROUP } from './cache-type.js';
import { encodeGroup, groupOf, type Kind } from './codes.js';
import type { Page, PageOptions } from './key-value-pages.js';

/** Tensors of a page, int32: codes [B, Hkv, P, words], scales [B, Hkv, P / GROUP, words]. */
export interface CodePage {
  readonly keyCodes: tf.Tensor4D;
  readonly valueCodes: tf.Tensor4D;
  /** Absent where the type has none. */
  readonly keyScales?: tf.Tensor4D;
  readonly valueScales?: tf.Tensor4D;
}

export const tensorsOf = (page: CodePage): tf.Tensor4D[] => Object.values(page) as tf.Tensor4D[];

export function mapPage(page: CodePage, change: (x: tf.Tensor4D) => tf.Tensor4D): CodePage {
  return Object.fromEntries(
    Object.entries(page).map(([name, x]) => [name, change(x as tf.Tensor4D)]),
  ) as unknown as CodePage;
}

/** A page of `pageSize` rows in which nothing is coded yet; it outlives the surrounding tidy. */
export function emptyPage(
  type: CacheType,
  { batch, kvHeads, headDim }: PageOptions,
  pageSize: number,
): CodePage {
  const { codes, keyScales, valueScales } = codeWords(type, headDim);
  const empty = (rows: number, words: number): tf.Tensor4D =>
    tf.keep(tf.fill<tf.Rank.R4>([batch, kvHeads, rows, words], 0, 'int32'));
  const groups = pageSize / GROUP;
  return {
    keyCodes: empty(pageSize, codes),
    valueCodes: empty(pageSize, codes),
    ...(keyScales > 0 && { keyScales: empty(groups, keyScales) }),
    ...(valueScales > 0 && { valueScales: empty(groups, valueScales) }),
  };
}

/** A page with some more groups coded, by the reference. */
export function coded(page: CodePage, raw: Page, attrs: CompressAttributes): CodePage {
  const words = mapWords(page);
  const { key, value } = raw;
  encodeRows(words, { key: key.dataSync<'float32'>(), value: value.dataSync<'float32'>() }, key.shape, attrs);
  return mapPage(page, (x) => tf.keep(tf.tensor4d(words.get(x) as Int32Array, x.shape, 'int32')));
}

/** A copy of the words of every tensor of a page. */
function mapWords(page: CodePage): Map<tf.Tensor, Int32Array> & CodeArrays {
  const words = new Map<tf.Tensor, Int32Array>(
    tensorsOf(page).map((x) => [x, x.dataSync<'int32'>().slice()]),
  );
  const none = new Int32Array(0);
  return Object.assign(words, {
    keyCodes: words.get(page.keyCodes) ?? none,
    valueCodes: words.get(page.valueCodes) ?? none,
    keyScales: (page.keyScales && words.get(page.keyScales)) ?? none,
    valueScales: (page.valueScales && words.get(page.valueScales)) ?? none,
    pageGroups: page.keyCodes.shape[2] / GROUP,
  });
}

/** The words of a page. */
export interface CodeArrays {
  readonly keyCodes: Int32Array;
  readonly valueCodes: Int32Array;
  readonly keyScales: Int32Array;
  readonly valueScales: Int32Array;
  /** Groups of the page. */
  readonly pageGroups: number;
}

/** Codes `count` groups of all heads of rows [B, H, R, D], from `row` on, into a page from `group` on. */
export function encodeRows(
  page: CodeArrays,
  raw: Readonly<Record<Kind, Float32Array>>,
  [batch, heads, rows, width]: readonly [number, number, number, number],
  { type, row, group, count }: CompressAttributes,
): void {
  for (const kind of ['key', 'value'] as const) {
    const into = { codes: page[`${kind}Codes`], scales: page[`${kind}Scales`] };
    for (let head = 0; head < batch * heads; head++)
      for (let i = 0; i < count; i++) {
        const from = (head * rows + row + i * GROUP) * width;
        const at = { head, group: group + i, pageGroups: page.pageGroups, width };
        const part = raw[kind].subarray(from, from + GROUP * width);
        encodeGroup(type, kind, part, groupOf(type, kind, into, at));
      }
  }
}
