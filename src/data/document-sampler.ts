/**
 * Batches in which each row is a part of one document, so that nothing reaches over from another: every mixer begins a row
 * without a state, at position 0. Rows are padded at their end, which nothing before it sees.
 *
 * Rows of a batch have one width, `length` or a half, quarter, … of it; a part goes to the narrowest that holds it, and a batch
 * of narrow rows has so many more. A batch has thus as many positions as one of full rows, part of them padding.
 */
import { UsageError } from '../errors.js';
import { Random } from '../random.js';
import { requireCursor, requireWithin } from './batch-sampler.js';
import type { DocumentRange, LongDocuments } from './document-ends.js';
import type { TokenStore } from './token-store.js';

export interface DocumentOptions {
  readonly tokens: TokenStore;
  readonly ranges: readonly DocumentRange[];
  /** What a document begins with: its first token is predicted from it. */
  readonly begin: number;
  /** Rows of a batch of the full width. */
  readonly batch: number;
  /** Tokens predicted in a row, at most: longer documents are cut. */
  readonly length: number;
  readonly seed: number | string;
  /** How often an epoch reads documents of at least `length` tokens; `only`: once, and none of the others. Default 1. */
  readonly longDocuments?: LongDocuments;
}

/** Where a sampler is; plain JSON. */
export interface DocumentCursor {
  readonly epoch: number;
  /** Batches of this epoch handed out so far. */
  readonly window: number;
}

export interface DocumentBatch {
  readonly rows: number;
  readonly width: number;
  /** [rows, width] each; padding is the begin token. */
  readonly tokens: Int32Array;
  readonly targets: Int32Array;
  /** Tokens predicted in each row; what follows is padding. */
  readonly counts: Int32Array;
}

/** A part of a document: `count` predicted tokens after the first `offset`. */
interface Part extends DocumentRange {
  readonly offset: number;
  readonly count: number;
}

interface Planned {
  readonly width: number;
  readonly parts: readonly Part[];
}

/** Rows are at most this many times as many as those of the full width. */
const MOST_HALVINGS = 6;
/** Narrower rows are not worth a width of their own. */
const NARROWEST = 16;

export class DocumentSampler {
  private epoch = 0;
  private at = 0;
  private batches: Planned[] = [];

  constructor(private readonly options: DocumentOptions) {
    this.begin(0);
  }

  next(): DocumentBatch {
    if (this.at === this.batches.length) this.begin(this.epoch + 1);
    const { width, parts } = this.batches[this.at] as Planned;
    this.at += 1;
    const size = parts.length * width;
    const tokens = new Int32Array(size).fill(this.options.begin);
    const targets = new Int32Array(size).fill(this.options.begin);
    parts.forEach((part, row) => {
      const ids = this.read(part);
      tokens.set(ids.subarray(0, part.count), row * width);
      targets.set(ids.subarray(1), row * width);
    });
    const counts = Int32Array.from(parts, ({ count }) => count);
    return { rows: parts.length, width, tokens, targets, counts };
  }

  cursor(): DocumentCursor {
    return { epoch: this.epoch, window: this.at };
  }

  /** Goes to where `cursor` was taken by a sampler with the same options. */
  seek({ epoch, window }: DocumentCursor): void {
    requireCursor(epoch, window);
    this.begin(epoch);
    requireWithin('batch', window, this.batches.length);
    this.at = window;
  }

  /** The `count` + 1 tokens of a part, of which the first may be the begin token. */
  private read({ start, offset, count }: Part): Int32Array {
    const { tokens, begin } = this.options;
    const ids = new Int32Array(count + 1);
    if (offset > 0) tokens.read(start + offset - 1, ids);
    else {
      ids[0] = begin;
      tokens.read(start, ids.subarray(1));
    }
    return ids;
  }

  private begin(epoch: number): void {
    const random = new Random(this.options.seed).fork(`epoch ${epoch}`);
    this.epoch = epoch;
    this.at = 0;
    this.batches = random.shuffle(this.plan(random.shuffle([...this.parts(random)])));
  }

  private *parts(random: Random): Generator<Part> {
    const { ranges, length, longDocuments = 1 } = this.options;
    let found = false;
    for (const range of ranges) {
      const isLong = range.end - range.start > length;
      const times = longDocuments === 'only' ? Number(isLong) : isLong ? longDocuments : 1;
      found ||= isLong;
      for (let time = 0; time < times; time++) yield* cut(range, length, random);
    }
    if (ranges.length > 0 && (found || longDocuments === 1)) return;
    throw new UsageError(
      ranges.length === 0
        ? 'the training text has no documents'
        : `no document has ${length} tokens: use longer documents or shorter sequences, or leave longDocuments out`,
    );
  }

  /**
   * Batches of all parts. What is left of a width, fewer than a batch, goes to the next wider; what is left of the full width is
   * filled up with parts that the epoch has had already.
   */
  private plan(parts: readonly Part[]): Planned[] {
    const { batch, length } = this.options;
    const planned: Planned[] = [];
    let left: Part[] = [];
    for (let halving = halvings(length); halving >= 0; halving--) {
      const width = Math.ceil(length / 2 ** halving);
      const narrower = halving === halvings(length) ? 0 : Math.ceil(length / 2 ** (halving + 1));
      const rows = batch * 2 ** halving;
      const fitting = [...left, ...parts.filter(({ count }) => count > narrower && count <= width)];
      const full = Math.floor(fitting.length / rows) * rows;
      for (let at = 0; at < full; at += rows) planned.push({ width, parts: fitting.slice(at, at + rows) });
      left = fitting.slice(full);
    }
    if (left.length === 0) return planned;
    const fill = Array.from({ length: batch - left.length }, (_, i) => parts[i % parts.length] as Part);
    return [...planned, { width: length, parts: [...left, ...fill] }];
  }
}

function halvings(length: number): number {
  let count = 0;
  while (count < MOST_HALVINGS && length / 2 ** (count + 1) >= NARROWEST) count += 1;
  return count;
}

/**
 * A document as parts of at most `length` predicted tokens, as few as there can be. The cuts are shifted by a random amount, so
 * that it is not always the same tokens that lack a context.
 */
function* cut({ start, end }: DocumentRange, length: number, random: Random): Generator<Part> {
  const all = end - start;
  const spare = Math.ceil(all / length) * length - all;
  const shift = all > length ? random.below(spare + 1) : 0;
  let offset = 0;
  for (let next = length - shift; offset < all; next += length) {
    const to = Math.min(next, all);
    yield { start, end, offset, count: to - offset };
    offset = to;
  }
}
