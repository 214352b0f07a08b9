/** Sequences to train on, in an order that can be left and taken up again exactly. */
import { UsageError } from '../errors.js';
import { Random } from '../random.js';
import type { DocumentRange, LongDocuments } from './document-ends.js';
import { requireTokens, type TokenStore } from './token-store.js';

export interface BatchOptions {
  readonly tokens: TokenStore;
  /** Sequences in a batch. */
  readonly batch: number;
  /** Tokens predicted in each sequence; a window has one more. */
  readonly length: number;
  readonly seed: number | string;
  /**
   * How often an epoch reads documents of at least `length` tokens: the windows of the text have them once; each time more adds
   * windows that lie wholly in one such document. `only`: once, and none of the others.
   */
  readonly longDocuments?: { readonly ranges: readonly DocumentRange[]; readonly times: LongDocuments };
}

/** Where a sampler is; plain JSON. */
export interface BatchCursor {
  readonly epoch: number;
  /** Windows of this epoch handed out so far. */
  readonly window: number;
}

/**
 * Cuts the tokens into windows of `length` + 1 that overlap in one token and hands them out in a fresh random order
 * every epoch. The cuts are shifted by a random amount each epoch so that no token is always the first of its window.
 */
export class BatchSampler {
  private epoch = 0;
  private window = 0;
  /** First tokens of the windows. */
  private starts: number[] = [];

  constructor(private readonly options: BatchOptions) {
    const { tokens, length } = options;
    requireTokens(tokens, length + 1, 'the training text');
    this.begin(0);
  }

  get windowsPerEpoch(): number {
    return this.starts.length;
  }

  /** The next batch: shape [batch, length + 1], row-major. */
  next(): Int32Array {
    const { batch, length } = this.options;
    const rows = new Int32Array(batch * (length + 1));
    for (let row = 0; row < batch; row++)
      this.fill(rows.subarray(row * (length + 1), (row + 1) * (length + 1)));
    return rows;
  }

  /** The next window. @param target of `length` + 1 tokens */
  fill(target: Int32Array): void {
    if (this.window === this.starts.length) this.begin(this.epoch + 1);
    this.options.tokens.read(this.starts[this.window] as number, target);
    this.window += 1;
  }

  cursor(): BatchCursor {
    return { epoch: this.epoch, window: this.window };
  }

  /** Goes to where `cursor` was taken by a sampler with the same options. */
  seek({ epoch, window }: BatchCursor): void {
    requireCursor(epoch, window);
    this.begin(epoch);
    requireWithin('window', window, this.starts.length);
    this.window = window;
  }

  private begin(epoch: number): void {
    const { seed, longDocuments } = this.options;
    const random = new Random(seed).fork(`epoch ${epoch}`);
    this.epoch = epoch;
    this.window = 0;
    const times = longDocuments?.times ?? 1;
    const starts = times === 'only' ? [] : this.textWindows(random);
    for (let more = times === 'only' ? 1 : times - 1; more > 0; more--) {
      for (const start of this.documentWindows(random)) starts.push(start);
    }
    this.starts = random.shuffle(starts);
  }

  private textWindows(random: Random): number[] {
    const { tokens, length } = this.options;
    const count = Math.max(1, Math.floor((tokens.length - 1) / length) - 1);
    const shift = random.below(Math.min(tokens.length - 1 - count * length, length) + 1);
    return Array.from({ length: count }, (_, index) => shift + index * length);
  }

  /** Of long documents, as many as fit, from a random place on. */
  private *documentWindows(random: Random): Generator<number> {
    const { length, longDocuments } = this.options;
    const { ranges } = requireLong(length, longDocuments);
    for (const { start, end } of ranges) {
      const count = Math.floor((end - 1 - start) / length);
      if (count === 0) continue;
      const shift = random.below(end - 1 - start - count * length + 1);
      for (let index = 0; index < count; index++) yield start + shift + index * length;
    }
  }
}

/** @throws UsageError where no document is long: to read them more often would do nothing */
function requireLong(
  length: number,
  longDocuments: BatchOptions['longDocuments'],
): Exclude<BatchOptions['longDocuments'], undefined> {
  if (longDocuments?.ranges.some(({ start, end }) => end - start > length)) return longDocuments;
  throw new UsageError(
    `no document has ${length} tokens: use longer documents or shorter sequences, or leave longDocuments out`,
  );
}

/** @throws UsageError for what is no cursor */
export function requireCursor(epoch: number, place: number): void {
  if (Number.isSafeInteger(epoch) && epoch >= 0 && Number.isSafeInteger(place) && place >= 0) return;
  throw new UsageError(`invalid data cursor: epoch ${epoch}, window ${place}`);
}

/** @throws UsageError for a cursor beyond the `count` places of an epoch; all of them done is a place too */
export function requireWithin(kind: 'window' | 'batch', place: number, count: number): void {
  if (place <= count) return;
  throw new UsageError(
    `the data cursor is at ${kind} ${place} of ${count}: the text or the sequence length has changed`,
  );
}

/**
 * The windows of a text from its start on, for held-out loss: batches of shape [rows, length + 1] with at most `batch`
 * rows, at most `limit` windows in all.
 */
export function* sequentialBatches(
  tokens: TokenStore,
  { batch, length, limit = Infinity }: { batch: number; length: number; limit?: number },
): Generator<{ tokens: Int32Array; rows: number }> {
  requireTokens(tokens, length + 1, 'the held-out text');
  const windows = Math.min(limit, Math.floor((tokens.length - 1) / length));
  for (let first = 0; first < windows; first += batch) {
    const rows = Math.min(batch, windows - first);
    const ids = new Int32Array(rows * (length + 1));
    for (let row = 0; row < rows; row++) {
      tokens.read((first + row) * length, ids.subarray(row * (length + 1), (row + 1) * (length + 1)));
    }
    yield { tokens: ids, rows };
  }
}
