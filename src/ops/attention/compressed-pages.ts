/** Keys and values of a growing context in a compressed type: pages of codes, and the newest positions as computed. */
import * as tf from '../../tf.js';
import { hasKernel, runKernel } from '../dispatch.js';
import { sliceAxis } from '../reshape.js';
import { storedBytes } from '../stored-bytes.js';
import { rotary, type RotaryOptions } from '../rotary/rotary.js';
import { type CacheType, codeWords, GROUP, RECENT } from './cache-type.js';
import { type CodePage, coded, emptyPage, mapPage, tensorsOf } from './code-page.js';
import { defaultPageSize, requireRoom, writeRows, type Page, type PageOptions } from './key-value-pages.js';
import { cloned, ringOf } from './recent-rows.js';

/** Keys and values as computed, [B, Hkv, R, D]: row `row` holds position `start`, and those after it follow. */
export interface Raw extends Page {
  readonly start: number;
  readonly row: number;
  /** Whether row p mod RECENT holds position p. */
  readonly isRing: boolean;
}

/** The group of the newest position: it is not coded yet. */
const newestGroup = (length: number): number => Math.floor((length - 1) / GROUP) * GROUP;

export class CompressedPages {
  readonly pageSize: number;
  readonly pages: CodePage[] = [];
  private tokens = 0;
  /** Row p mod RECENT holds position p, of those from `recentFrom` on. */
  private recent: Page | null = null;
  private recentFrom = 0;
  private isRecentShared = false;
  /** Everything from the group of the first new position on, for as long as their queries attend. */
  private fresh: Raw | null = null;
  /** Pages, from the first on, that may also belong to a fork: they are copied before they are written to. */
  private sharedPages = 0;
  private readonly marks = new Map<number, { readonly recent: Page; readonly from: number }>();

  /** @throws UsageError for a width of heads that the type cannot code */
  constructor(
    readonly type: CacheType,
    readonly options: PageOptions,
  ) {
    this.pageSize = Math.ceil((options.pageSize ?? defaultPageSize(options)) / GROUP) * GROUP;
    codeWords(type, options.headDim);
  }

  get length(): number {
    return this.tokens;
  }

  /** Bytes as the engine stores them: whole pages, and the newest positions. */
  get bytes(): number {
    const coded = this.pages.flatMap(tensorsOf);
    const newest = this.recent ? [this.recent.key, this.recent.value] : [];
    return [...coded, ...newest].reduce((sum, tensor) => sum + storedBytes(tensor), 0);
  }

  /** What the queries of the last call see of their own groups. */
  get raw(): Raw {
    if (this.fresh) return this.fresh;
    if (!this.recent) throw new RangeError('the cache is empty');
    const start = newestGroup(this.tokens);
    return { ...this.recent, start, row: start % RECENT, isRing: true };
  }

  /** Positions that are coded: those before the newest group. */
  get coded(): number {
    return this.tokens === 0 ? 0 : newestGroup(this.tokens);
  }

  /**
   * Stores the keys and values of the next T positions.
   * @param k [B, T, Hkv, D], @param v of the same shape
   * @param rotation of the keys, by `rotary`; null: none
   * @throws RunError beyond `maxTokens`
   */
  append(k: tf.Tensor4D, v: tf.Tensor4D, rotation: RotaryOptions | null = null): void {
    const count = k.shape[1];
    requireRoom(this.tokens + count, this.options);
    this.settle();
    tf.tidy(() => {
      const keys = rotation === null ? k : rotary(k, rotation);
      if (count === 1) this.appendOne(keys, v);
      else this.appendMany(keys, v);
    });
    this.tokens += count;
  }

  /** Releases what only the queries of the last call needed. */
  settle(): void {
    if (this.fresh) tf.dispose([this.fresh.key, this.fresh.value]);
    this.fresh = null;
  }

  /** A position, in place where the engine can: the group before it is coded when it begins a new one. */
  private appendOne(k: tf.Tensor4D, v: tf.Tensor4D): void {
    const position = this.tokens;
    const begins = position > 0 && position % GROUP === 0;
    const page = begins ? this.writablePage(position - GROUP) : this.pages.at(-1);
    const recent = this.writableRecent();
    if (hasKernel('CompressedWrite')) {
      const inputs = { ...page, recentKeys: recent.key, recentValues: recent.value, keys: k, values: v };
      const attrs = { type: this.type, position, pageSize: this.pageSize };
      runKernel('CompressedWrite', inputs, attrs, () => []);
      return;
    }
    if (begins)
      this.code({ ...recent, start: position - GROUP, row: (position - GROUP) % RECENT, isRing: true }, 1);
    const row = position % RECENT;
    this.replaceRecent(writeRows(recent, k, v, { position: row, start: 0, count: 1 }));
  }

  private appendMany(k: tf.Tensor4D, v: tf.Tensor4D): void {
    const { tokens } = this;
    const start = Math.floor(tokens / GROUP) * GROUP;
    if (tokens > 0 && tokens === start) {
      const recent = this.writableRecent();
      this.code({ ...recent, start: start - GROUP, row: (start - GROUP) % RECENT, isRing: true }, 1);
    }
    const before = tokens - start;
    const joined = (rows: tf.Tensor4D, of: 'key' | 'value'): tf.Tensor4D => {
      const fresh = tf.transpose(rows, [0, 2, 1, 3]);
      if (before === 0 || !this.recent) return tf.keep(fresh === rows ? tf.clone(fresh) : fresh);
      return tf.keep(tf.concat([sliceAxis(this.recent[of], 2, start % RECENT, before), fresh], 2));
    };
    this.fresh = { key: joined(k, 'key'), value: joined(v, 'value'), start, row: 0, isRing: false };
    const length = tokens + k.shape[1];
    this.code(this.fresh, (newestGroup(length) - start) / GROUP);
    this.keepNewest(this.fresh, length);
  }

  /** Codes whole groups from the first row of `raw` on. */
  private code(raw: Raw, groups: number): void {
    for (let done = 0; done < groups;) {
      const position = raw.start + done * GROUP;
      const page = this.writablePage(position);
      const at = (position % this.pageSize) / GROUP;
      const count = Math.min(this.pageSize / GROUP - at, groups - done);
      const attrs = { type: this.type, row: raw.row + done * GROUP, group: at, count };
      const inputs = { ...page, keys: raw.key, values: raw.value };
      if (hasKernel('CompressRows')) runKernel('CompressRows', inputs, attrs, () => []);
      else this.replacePage(position, coded(page, raw, attrs));
      done += count;
    }
  }

  /** The page of a group that is to be coded: its own, with room for it. */
  private writablePage(position: number): CodePage {
    const index = Math.floor(position / this.pageSize);
    const old = this.pages[index];
    if (old && index >= this.sharedPages) return old;
    // A plain 0 would make floats of the words.
    const page = old
      ? mapPage(old, (x) => tf.keep(tf.add(x, tf.scalar(0, 'int32'))))
      : emptyPage(this.type, this.options, this.pageSize);
    this.replacePage(position, page);
    return page;
  }

  private replacePage(position: number, page: CodePage): void {
    const index = Math.floor(position / this.pageSize);
    tf.dispose(this.pages[index] ? tensorsOf(this.pages[index]) : []);
    this.sharedPages = Math.min(this.sharedPages, index);
    this.pages[index] = page;
  }

  private writableRecent(): Page {
    if (this.recent && !this.isRecentShared) return this.recent;
    const { batch, kvHeads, headDim } = this.options;
    const own = (x?: tf.Tensor4D): tf.Tensor4D =>
      tf.keep(x ? tf.add<tf.Tensor4D>(x, 0) : tf.fill<tf.Rank.R4>([batch, kvHeads, RECENT, headDim], 0));
    const page = { key: own(this.recent?.key), value: own(this.recent?.value) };
    this.replaceRecent(page);
    return page;
  }

  private replaceRecent(page: Page): void {
    if (this.recent === page) return;
    if (this.recent) tf.dispose([this.recent.key, this.recent.value]);
    this.recent = page;
    this.isRecentShared = false;
  }

  /** Keeps the newest group of `raw`, and the one before it where it is there. */
  private keepNewest(raw: Raw, length: number): void {
    const first = Math.max(raw.start, newestGroup(length) - GROUP);
    const whole = (x: tf.Tensor4D): tf.Tensor4D =>
      ringOf(sliceAxis(x, 2, first - raw.start, length - first), first);
    this.replaceRecent({ key: whole(raw.key), value: whole(raw.value) });
    this.recentFrom = first;
  }

  /** Whether the next position changes tensors in place, and neither adds nor replaces any. */
  get hasRoom(): boolean {
    const { maxTokens } = this.options;
    const { tokens } = this;
    const isFull = maxTokens !== undefined && tokens >= maxTokens;
    const begins = tokens % GROUP === 0;
    const own = !begins || this.pages.length - 1 >= Math.max(this.sharedPages, Math.floor((tokens - GROUP) / this.pageSize)); // prettier-ignore
    return (
      tokens > 0 &&
      !isFull &&
      own &&
      !this.isRecentShared &&
      this.fresh === null &&
      hasKernel('CompressedWrite')
    );
  }

  /** The tensors that the next position changes. */
  get written(): readonly tf.Tensor[] {
    const last = this.pages.at(-1);
    return [...(last ? tensorsOf(last) : []), ...(this.recent ? [this.recent.key, this.recent.value] : [])];
  }

  /**
   * Sets `length` where rows were written by a recorded step, or are taken back.
   * @throws RangeError where more than the newest rows would change
   */
  resume(length: number): void {
    if (Math.abs(length - this.tokens) > 1) throw new RangeError(`${length} does not follow ${this.tokens}`);
    this.settle();
    this.tokens = length;
  }

  /** Remembers the newest positions as computed, so that `rewind` can return to the present length. */
  mark(): void {
    if (!this.recent) return;
    this.forget(this.tokens);
    this.marks.set(this.tokens, { recent: cloned(this.recent), from: this.recentFrom });
    this.isRecentShared = true;
  }

  private forget(length: number): void {
    const mark = this.marks.get(length);
    if (mark) tf.dispose([mark.recent.key, mark.recent.value]);
    this.marks.delete(length);
  }

  /** Whether the group of the last position that remains is there as computed. */
  canRewind(length: number): boolean {
    if (length === 0 || this.marks.has(length)) return true;
    const oldest = Math.max(this.recentFrom, newestGroup(this.tokens) - GROUP);
    return length <= this.tokens && newestGroup(length) >= oldest;
  }

  /** @throws RangeError where `canRewind` is false */
  rewind(length: number): void {
    if (!this.canRewind(length)) throw new RangeError(`${this.tokens} positions cannot be cut to ${length}`);
    this.settle();
    const mark = this.marks.get(length);
    if (mark) {
      this.replaceRecent(cloned(mark.recent));
      this.isRecentShared = true;
      this.recentFrom = mark.from;
    }
    for (const marked of [...this.marks.keys()]) if (marked > length) this.forget(marked);
    this.tokens = length;
    const kept = Math.ceil(this.coded / this.pageSize);
    for (const page of this.pages.splice(kept)) tf.dispose(tensorsOf(page));
    this.sharedPages = Math.min(this.sharedPages, kept);
  }

  /** The same contents, independent from here on: full pages are shared, the last one when it is written to. */
  fork(): CompressedPages {
    const copy = new CompressedPages(this.type, { ...this.options, pageSize: this.pageSize });
    this.settle();
    copy.pages.push(...this.pages.map((page) => mapPage(page, (x) => tf.keep(tf.clone(x)))));
    copy.recent = this.recent && cloned(this.recent);
    copy.isRecentShared = this.isRecentShared = true;
    copy.recentFrom = this.recentFrom;
    copy.tokens = this.tokens;
    copy.sharedPages = this.sharedPages = this.pages.length;
    return copy;
  }

  dispose(): void {
    this.settle();
    tf.dispose(this.pages.flatMap(tensorsOf));
    this.pages.length = 0;
    if (this.recent) tf.dispose([this.recent.key, this.recent.value]);
    this.recent = null;
    for (const length of [...this.marks.keys()]) this.forget(length);
    this.sharedPages = 0;
    this.tokens = 0;
  }
}
