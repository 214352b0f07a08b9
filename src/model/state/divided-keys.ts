/** Keys and values of sequences that are divided over ranks: they stay where they were made, and attention to all parts is merged. */
import type { Communicator } from '../../distributed/communicator.js';
import { mergeParts, mergeStacked, type PartialAttention, rotary } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { rotationAt, type Rotation, type Rows } from '../layers/heads.js';
import { KeptPositions } from './kept-positions.js';
import type { DividedMemory, KeyValueMemory } from './memory.js';
import type { HeadShape, PagedMemory } from './pages.js';

/** Keys and values of all positions, each on the rank that made it. */
export class DividedKeys implements DividedMemory, KeyValueMemory {
  readonly grows = true;
  private kept: KeptPositions;
  /** The rank that wrote the last position, a short run, into a page of its own; null after anything else. */
  private writer: number | null = null;
  private era = 0;

  constructor(
    private readonly own: PagedMemory,
    private readonly ranks: Communicator,
  ) {
    this.kept = new KeptPositions(ranks.size);
  }

  append(k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): void {
    requireConsecutive(rows);
    if (this.keeps(rows)) this.own.append(k, v, rows, rotation);
    const count = k.shape[1];
    if (rows.isSlice === true) this.noteSlices(rows.start - this.ranks.rank * count, count);
    else this.noteShort(rows.start, count);
  }

  private noteSlices(from: number, count: number): void {
    for (let rank = 0; rank < this.ranks.size; rank++) {
      this.kept.add({ start: from + rank * count, count, rank });
    }
    this.beginEra();
  }

  private noteShort(start: number, count: number): void {
    const rank = this.kept.keeperAt(start);
    const pages = (): number => Math.ceil(this.kept.of(rank) / this.own.pageSize);
    const before = pages();
    this.kept.add({ start, count, rank });
    if (rank !== this.writer || pages() !== before) this.beginEra();
    this.writer = rank;
  }

  /** What was recorded of the pages no longer holds. */
  private beginEra(): void {
    this.era += 1;
    this.writer = null;
  }

  attend(q: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    requireConsecutive(rows);
    return tf.tidy(() => {
      const queries = rotation === null ? tf.clone(q) : rotary(q, rotationAt(rows, rotation));
      q.dispose();
      return rows.isSlice === true ? this.attendSlices(queries) : this.attendSame(queries, rows);
    });
  }

  extend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    this.append(k, v, rows, rotation);
    return this.attend(q, rows, rotation);
  }

  /**
   * Appends `count` positions as `StoredMemory` does, each rank an equal part, and one more the first of them where it is uneven.
   * @param start positions before them
   */
  fill(block: tf.Tensor4D, count: number, start: number): void {
    const { size } = this.ranks;
    for (let rank = 0; rank < size; rank++) {
      const from = Math.ceil((rank * count) / size);
      const part = Math.ceil(((rank + 1) * count) / size) - from;
      if (part === 0) continue;
      if (rank === this.ranks.rank) this.own.fill(block, part);
      this.kept.add({ start: start + from, count: part, rank });
    }
    this.beginEra();
  }

  get headShape(): HeadShape {
    return this.own.headShape;
  }

  /** Whether this rank keeps the keys and values of the rows. */
  private keeps({ start, isSlice }: Rows): boolean {
    return isSlice === true || this.kept.keeperAt(start) === this.ranks.rank;
  }

  /**
   * All ranks have the same queries, of the last positions appended: each attends to its part, and all merge all parts. One that
   * has no keys computes nothing, so that its part may be kept in another precision.
   */
  private attendSame(q: tf.Tensor4D, rows: Rows): tf.Tensor4D {
    const { ranks } = this;
    const part = this.own.attendPartly(q, this.keeps(rows) ? 'causal' : this.own.length);
    const gathered = (x: tf.Tensor): tf.Tensor =>
      tf.reshape(ranks.allGather(tf.reshape(x, [x.size]), 'float32'), [ranks.size, ...x.shape]);
    return mergeStacked(gathered(part.output) as tf.Tensor5D, gathered(part.logSumExp) as tf.Tensor4D);
  }

  /**
   * Every rank has queries of its own: they go to all ranks, and each answers for its part. A rank's newest keys are seen by
   * queries of later ranks, causally by its own, and not by those before it.
   */
  private attendSlices(q: tf.Tensor4D): tf.Tensor4D {
    const { rank, size } = this.ranks;
    const all = slicesOf(this.ranks.allGather(tf.reshape(q, [q.size])), size, q.shape) as tf.Tensor4D[];
    const before = this.own.length - q.shape[1];
    const answer = (from: number): PartialAttention =>
      this.own.attendPartly(
        all[from] as tf.Tensor4D,
        from === rank ? 'causal' : from > rank ? this.own.length : before,
      );
    const parts: PartialAttention[] = [];
    for (let distance = 0; distance < size; distance++) {
      const [to, from] = [(rank + distance) % size, (rank - distance + size) % size];
      const mine = answer(to);
      parts[from] = distance === 0 ? mine : this.swap(mine, to, from);
    }
    return mergeParts(parts);
  }

  /** Sends an answer to the rank that asked, and receives one. */
  private swap({ output, logSumExp }: PartialAttention, to: number, from: number): PartialAttention {
    const swapped = (x: tf.Tensor): tf.Tensor =>
      this.ranks.exchange({ x, to }, { shape: x.shape, dtype: 'float32', from }) as tf.Tensor;
    return { output: swapped(output) as tf.Tensor4D, logSumExp: swapped(logSumExp) as tf.Tensor3D };
  }

  settle(): void {
    this.own.settle();
  }

  unite(): void {
    // Keys and values stay where they are.
  }

  get bytes(): number {
    return this.own.bytes;
  }

  fork(): DividedKeys {
    const copy = new DividedKeys(this.own.fork(), this.ranks);
    copy.kept = this.kept.copy();
    // The next position goes into a copy of the last page, here and there.
    this.beginEra();
    return copy;
  }

  mark(): void {
    // Pages keep everything.
  }

  canRewind(): boolean {
    return true;
  }

  rewind(length: number): void {
    this.kept.rewind(length);
    this.own.rewind(this.kept.of(this.ranks.rank));
    this.beginEra();
  }

  dispose(): void {
    this.own.dispose();
  }

  written(): readonly tf.Tensor[] {
    return this.own.written();
  }

  carried(): readonly tf.Tensor4D[] {
    return [];
  }

  restore(): void {
    // Its pages are written in place.
  }

  /** Of the rank that writes the next position; all ranks know whether it can. */
  get isWritable(): boolean {
    const { writer, kept, own } = this;
    return writer !== null && writer === kept.keeperAt(kept.total) && own.hasRoomAfter(kept.of(writer));
  }

  get division(): { keys: number; era: number } {
    return { keys: this.kept.of(this.ranks.rank), era: this.era };
  }

  shape(): string {
    return String(this.era);
  }

  resume(length: number): void {
    this.kept.resize(length);
    const keys = this.kept.of(this.ranks.rank);
    if (keys !== this.own.length) this.own.resume(keys);
  }
}

function requireConsecutive({ positions }: Rows): void {
  if (positions !== null) throw new RangeError('rows of divided sequences follow each other');
}

/** The parts of x [N * n] that the ranks gave. */
function slicesOf(x: tf.Tensor1D, size: number, shape: readonly number[]): tf.Tensor[] {
  const count = x.size / size;
  return Array.from({ length: size }, (_, rank) =>
    tf.reshape(tf.slice(x, [rank * count], [count]), [...shape]),
  );
}
