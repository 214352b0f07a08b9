/** Batches to train on, in an order that can be left and taken up again exactly. */
import { UsageError } from '../errors.js';
import { Random } from '../random.js';
import { requireTokens, type TokenStore } from './token-store.js';

export interface BatchOptions {
  readonly tokens: TokenStore;
  /** Sequences in a batch. */
  readonly batch: number;
  /** Tokens predicted in each sequence; a window has one more. */
  readonly length: number;
  readonly seed: number | string;
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
  readonly windowsPerEpoch: number;
  private epoch = 0;
  private window = 0;
  private order = new Uint32Array(0);
  private shift = 0;

  constructor(private readonly options: BatchOptions) {
    const { tokens, length } = options;
    requireTokens(tokens, length + 1, 'the training text');
    this.windowsPerEpoch = Math.max(1, Math.floor((tokens.length - 1) / length) - 1);
    this.begin(0);
  }

  /** The next batch: shape [batch, length + 1], row-major. */
  next(): Int32Array {
    const { batch, length, tokens } = this.options;
    const rows = new Int32Array(batch * (length + 1));
    for (let row = 0; row < batch; row++) {
      if (this.window === this.windowsPerEpoch) this.begin(this.epoch + 1);
      const start = this.shift + (this.order[this.window] as number) * length;
      tokens.read(start, rows.subarray(row * (length + 1), (row + 1) * (length + 1)));
      this.window += 1;
    }
    return rows;
  }

  cursor(): BatchCursor {
    return { epoch: this.epoch, window: this.window };
  }

  /** Goes to where `cursor` was taken by a sampler with the same options. */
  seek(cursor: BatchCursor): void {
    const { epoch, window } = cursor;
    if (!Number.isSafeInteger(epoch) || epoch < 0 || !Number.isSafeInteger(window) || window < 0) {
      throw new UsageError(`invalid data cursor: epoch ${epoch}, window ${window}`);
    }
    if (window > this.windowsPerEpoch) {
      throw new UsageError(
        `the data cursor is at window ${window} of ${this.windowsPerEpoch}: the text or the sequence length has changed`,
      );
    }
    this.begin(epoch);
    this.window = window;
  }

  private begin(epoch: number): void {
    const { seed, tokens, length } = this.options;
    const random = new Random(seed).fork(`epoch ${epoch}`);
    this.epoch = epoch;
    this.window = 0;
    const spare = tokens.length - 1 - this.windowsPerEpoch * length;
    this.shift = random.below(Math.min(spare, length) + 1);
    this.order = random.shuffle(Uint32Array.from({ length: this.windowsPerEpoch }, (_, index) => index));
  }
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
