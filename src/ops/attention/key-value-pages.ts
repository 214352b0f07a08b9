/** Keys and values of a growing context, in pages of equal size: nothing is copied when it grows, and forks share. */
import * as tf from '../../tf.js';
import { RunError } from '../../errors.js';
import { hasKernel, runKernel } from '../dispatch.js';
import type { PageWriteAttributes } from '../kernels.js';
import { limits } from '../limits.js';
import { storedBytes } from '../stored-bytes.js';
import { rotary, rotationAttributes, type RotaryOptions } from '../rotary/rotary.js';

export interface PageOptions {
  readonly batch: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /**
   * Positions per page; default 4,096. Given `maxTokens`: the power of two that holds them if that is smaller, or as many
   * as `limits.keyPageBytes` allows if that is larger.
   */
  readonly pageSize?: number;
  /** Positions the pages are going to hold at most; more are refused. */
  readonly maxTokens?: number;
}

/** Keys and values of pageSize positions, each [B, Hkv, P, D]; rows that are not filled yet are zero. */
export interface Page {
  readonly key: tf.Tensor4D;
  readonly value: tf.Tensor4D;
}

const DEFAULT_PAGE = 4096;
const SMALLEST_PAGE = 16;

/** Positions up to which keys are rotated when they are written: later each head would compute the same phases again. */
const FEW_POSITIONS = 16;

function isFused(count: number, { positions = null }: RotaryOptions): boolean {
  return count <= FEW_POSITIONS && positions === null && hasKernel('RotatedPageWrite');
}

export function defaultPageSize({ batch, kvHeads, headDim, maxTokens }: PageOptions): number {
  if (maxTokens === undefined) return DEFAULT_PAGE;
  const fitting = 2 ** Math.ceil(Math.log2(Math.max(1, maxTokens)));
  const allowed = 2 ** Math.floor(Math.log2(limits.keyPageBytes / (batch * kvHeads * headDim * 4)));
  return Math.min(Math.max(DEFAULT_PAGE, allowed), Math.max(SMALLEST_PAGE, fitting));
}

/** @throws RunError where a cache is to hold more than `maxTokens` */
export function requireRoom(tokens: number, { maxTokens = Infinity }: PageOptions): void {
  if (tokens <= maxTokens) return;
  throw new RunError(
    `the key/value cache holds ${maxTokens} tokens and cannot take ${tokens}: create it with a larger maxTokens`,
  );
}

export class KeyValuePages {
  readonly pageSize: number;
  readonly pages: Page[] = [];
  private tokens = 0;
  /** Pages, from the first on, that may also belong to a fork: they are copied before they are written to. */
  private sharedPages = 0;

  constructor(readonly options: PageOptions) {
    this.pageSize = options.pageSize ?? defaultPageSize(options);
  }

  /** Positions stored. */
  get length(): number {
    return this.tokens;
  }

  /** Bytes of the pages as the engine stores them, with the rows not filled yet; pages shared with forks count in each. */
  get bytes(): number {
    return this.pages.reduce((sum, { key, value }) => sum + storedBytes(key) + storedBytes(value), 0);
  }

  /**
   * Stores the keys and values of the next T positions.
   * @param k [B, T, Hkv, D]
   * @param v [B, T, Hkv, D]
   * @param rotation of the keys, by `rotary`; null: none
   * @throws RunError beyond `maxTokens`
   */
  append(k: tf.Tensor4D, v: tf.Tensor4D, rotation: RotaryOptions | null = null): void {
    const count = k.shape[1];
    requireRoom(this.tokens + count, this.options);
    if (rotation !== null && !isFused(count, rotation)) {
      tf.tidy(() => {
        this.append(rotary(k, rotation), v);
      });
      return;
    }
    for (let start = 0; start < count;) {
      const position = this.tokens % this.pageSize;
      const rows = Math.min(this.pageSize - position, count - start);
      this.writePage(k, v, { position, start, count: rows, counter: 'keys' }, rotation);
      this.tokens += rows;
      start += rows;
    }
  }

  private writePage(
    k: tf.Tensor4D,
    v: tf.Tensor4D,
    attrs: PageWriteAttributes,
    rotation: RotaryOptions | null,
  ): void {
    const { position } = attrs;
    const index = position === 0 ? this.pages.length : this.pages.length - 1;
    const old = position === 0 ? undefined : this.pages[index];
    const target = (page?: tf.Tensor4D): tf.Tensor4D =>
      page && index >= this.sharedPages ? page : this.emptyPage(page);
    const page = hasKernel('PageWrite')
      ? writeRows({ key: target(old?.key), value: target(old?.value) }, k, v, attrs, rotation)
      : {
          key: rewritten(this.pageShape, old?.key, k, attrs),
          value: rewritten(this.pageShape, old?.value, v, attrs),
        };
    if (old && old.key !== page.key) tf.dispose([old.key, old.value]);
    this.sharedPages = Math.min(this.sharedPages, index);
    this.pages[index] = page;
  }

  private get pageShape(): [number, number, number, number] {
    const { batch, kvHeads, headDim } = this.options;
    return [batch, kvHeads, this.pageSize, headDim];
  }

  /** A page of its own memory: a copy of `page`, or zeros (filled by the engine; `tf.zeros` sends them from the host). */
  private emptyPage(page?: tf.Tensor4D): tf.Tensor4D {
    return tf.keep(tf.tidy(() => (page ? tf.add(page, 0) : tf.fill<tf.Rank.R4>(this.pageShape, 0))));
  }

  /** Whether the next position goes in place into the last page, so that no page is added or replaced. */
  get hasRoom(): boolean {
    return this.pages.length > this.sharedPages && this.hasRoomAfter(this.tokens);
  }

  /** Whether after so many positions the next goes in place into the last page, unless forks have that too. */
  hasRoomAfter(length: number): boolean {
    const { maxTokens = Infinity } = this.options;
    return length < maxTokens && length % this.pageSize !== 0 && hasKernel('PageWrite');
  }

  /**
   * Sets `length` where the last page's rows were written by a recorded step, or are taken back.
   * @throws RangeError outside the last page
   */
  resume(length: number): void {
    if (Math.ceil(length / this.pageSize) !== this.pages.length) {
      throw new RangeError(`${length} positions do not end in page ${this.pages.length}`);
    }
    this.tokens = length;
  }

  /**
   * Forgets the positions from `length` on.
   * @throws RangeError where there are not as many
   */
  rewind(length: number): void {
    if (!(length >= 0 && length <= this.tokens)) {
      throw new RangeError(`${this.tokens} positions cannot be cut to ${length}`);
    }
    const kept = Math.ceil(length / this.pageSize);
    for (const { key, value } of this.pages.splice(kept)) tf.dispose([key, value]);
    this.sharedPages = Math.min(this.sharedPages, kept);
    this.tokens = length;
  }

  /** The same contents, independent from here on: full pages are shared, the last one when it is written to. */
  fork(): KeyValuePages {
    const copy = new KeyValuePages({ ...this.options, pageSize: this.pageSize });
    for (const { key, value } of this.pages) {
      copy.pages.push({ key: tf.keep(tf.clone(key)), value: tf.keep(tf.clone(value)) });
    }
    copy.tokens = this.tokens;
    copy.sharedPages = this.sharedPages = this.pages.length;
    return copy;
  }

  dispose(): void {
    for (const { key, value } of this.pages) tf.dispose([key, value]);
    this.pages.length = 0;
    this.sharedPages = 0;
    this.tokens = 0;
  }
}

/** Writes rows into a page: in place where the engine can, or else into a new one. */
export function writeRows(
  page: Page,
  k: tf.Tensor4D,
  v: tf.Tensor4D,
  attrs: PageWriteAttributes,
  rotation: RotaryOptions | null = null,
): Page {
  if (!hasKernel('PageWrite')) {
    const { shape } = page.key;
    return { key: rewritten(shape, page.key, k, attrs), value: rewritten(shape, page.value, v, attrs) };
  }
  const inputs = { keyPage: page.key, valuePage: page.value, keys: k, values: v };
  if (rotation === null) runKernel('PageWrite', inputs, attrs, () => []);
  else runKernel('RotatedPageWrite', inputs, { ...attrs, rotation: rotationAttributes(rotation) }, () => []);
  return page;
}

/** A new page made of the old rows and the new ones; zeros where there was no page. */
function rewritten(
  [batch, heads, size, width]: [number, number, number, number],
  page: tf.Tensor4D | undefined,
  rows: tf.Tensor4D,
  { position, start, count }: PageWriteAttributes,
): tf.Tensor4D {
  return tf.keep(
    tf.tidy(() => {
      const fresh = tf.transpose(
        tf.slice(rows, [0, start, 0, 0], [batch, count, heads, width]),
        [0, 2, 1, 3],
      );
      const old = (from: number, length: number): tf.Tensor4D[] => {
        if (length === 0) return [];
        const shape: [number, number, number, number] = [batch, heads, length, width];
        return [page ? tf.slice(page, [0, 0, from, 0], shape) : tf.zeros(shape)];
      };
      const after = position + count;
      return tf.concat([...old(0, position), fresh, ...old(after, size - after)], 2);
    }),
  );
}
