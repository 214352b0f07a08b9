/**
 * Memories of models whose sequences are divided over ranks. Keys and values stay on the rank that made them, and attention to
 * each rank's part is merged. What has a constant size is handed from rank to rank with the slices of a run, and all ranks have
 * it between runs; so a short run, which every rank computes whole, needs nothing of the others but their part of attention.
 */
import type { Communicator } from '../../distributed/communicator.js';
import {
  broadcastTensors,
  mergeParts,
  type PartialAttention,
  receiveTensors,
  rotary,
  sendTensors,
} from '../../ops/index.js';
import * as tf from '../../tf.js';
import { rotationAt, type Rotation, type Rows } from '../layers/heads.js';
import { UsageError } from '../../errors.js';
import { RecurrentState, WindowRing } from './constant.js';
import type { KeyValueMemory, Memory, MemoryOptions, SelfMemory, StateMemory, StateStep } from './memory.js';
import { PagedMemory } from './pages.js';

/** A memory of this rank, one of several. */
export interface DividedMemory extends Memory {
  /** After a run of which every rank had a slice: what follows may be computed on any rank. */
  unite(): void;
}

/** What one rank's memories are made for: its slices, and what short runs add. */
export function shareOfRank(options: MemoryOptions, { size }: Communicator): MemoryOptions {
  const { maxTokens } = options;
  if (maxTokens === undefined) return options;
  return { ...options, maxTokens: Math.ceil(maxTokens / size) + SHORT_RUNS };
}

/** @param memory empty */
export function divideMemory(memory: Memory, ranks: Communicator): DividedMemory {
  if (memory instanceof PagedMemory) return new DividedKeys(memory, ranks);
  if (memory instanceof RecurrentState || memory instanceof WindowRing) return new HandedOn(memory, ranks);
  throw new UsageError(
    'compressed keys and values (--kv-dtype) cannot be divided over ranks (--context-parallel): leave one of the two out',
  );
}

/** A recurrent state or a window. */
class HandedOn implements DividedMemory, SelfMemory, StateMemory {
  readonly grows = false;
  /** Recorded steps do not talk to other ranks. */
  readonly isWritable = false;

  constructor(
    private readonly own: RecurrentState | WindowRing,
    private readonly ranks: Communicator,
  ) {}

  extend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    return this.between(rows, () => (this.own as WindowRing).extend(q, k, v, rows, rotation));
  }

  advance<Inputs extends readonly tf.Tensor[]>(
    inputs: Inputs,
    rows: Rows,
    step: StateStep<Inputs>,
  ): tf.Tensor {
    return this.between(rows, () => (this.own as RecurrentState).advance(inputs, rows, step));
  }

  /** Waits for the rank before, and hands on to the next. */
  private between<Result>(rows: Rows, mix: () => Result): Result {
    const { rank, size } = this.ranks;
    const isSlice = rows.isSlice === true;
    if (isSlice && rank > 0) this.own.restore(receiveTensors(this.ranks, rank - 1) as tf.Tensor4D[]);
    const mixed = mix();
    if (isSlice && rank < size - 1) sendTensors(this.ranks, this.own.carried(), rank + 1);
    return mixed;
  }

  unite(): void {
    const last = broadcastTensors(this.ranks, this.own.carried(), this.ranks.size - 1);
    this.own.restore(last as tf.Tensor4D[]);
  }

  get bytes(): number {
    return this.own.bytes;
  }

  fork(): HandedOn {
    return new HandedOn(this.own.fork() as RecurrentState | WindowRing, this.ranks);
  }

  mark(length: number): void {
    this.own.mark(length);
  }

  canRewind(length: number): boolean {
    return this.own.canRewind(length);
  }

  rewind(length: number): void {
    this.own.rewind(length);
  }

  dispose(): void {
    this.own.dispose();
  }

  written(): readonly tf.Tensor[] {
    return this.own.written();
  }

  carried(): readonly tf.Tensor4D[] {
    return this.own.carried();
  }

  restore(tensors: readonly tf.Tensor4D[]): void {
    this.own.restore(tensors);
  }

  shape(): string {
    return this.own.shape();
  }

  settle(): void {
    this.own.settle();
  }

  resume(): void {
    this.own.resume();
  }
}

/** Short runs are kept by one rank for so many positions, then by the next. */
const SHORT_RUNS = 256;

/** Positions that this rank keeps. */
interface Kept {
  readonly start: number;
  readonly count: number;
}

/** Keys and values of all positions, each on the rank that made it. */
class DividedKeys implements DividedMemory, KeyValueMemory {
  readonly grows = true;
  readonly isWritable = false;
  private kept: Kept[] = [];

  constructor(
    private readonly own: PagedMemory,
    private readonly ranks: Communicator,
  ) {}

  append(k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): void {
    requireConsecutive(rows);
    if (!this.keeps(rows)) return;
    this.own.append(k, v, rows, rotation);
    this.kept.push({ start: rows.start, count: k.shape[1] });
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

  /** Whether this rank keeps the keys and values of the rows. */
  private keeps({ start, isSlice }: Rows): boolean {
    return isSlice === true || Math.floor(start / SHORT_RUNS) % this.ranks.size === this.ranks.rank;
  }

  /** All ranks have the same queries, of the last positions appended: each attends to its part, and all merge all parts. */
  private attendSame(q: tf.Tensor4D, rows: Rows): tf.Tensor4D {
    const { ranks } = this;
    const part = this.own.attendPartly(q, this.keeps(rows) ? 'causal' : this.own.length);
    const outputs = slicesOf(ranks.allGather(tf.reshape(part.output, [q.size])), ranks.size, q.shape);
    const { shape, size } = part.logSumExp;
    const sums = slicesOf(ranks.allGather(tf.reshape(part.logSumExp, [size])), ranks.size, shape);
    return mergeParts(
      outputs.map((output, i) => ({
        output: output as tf.Tensor4D,
        logSumExp: sums[i] as tf.Tensor3D,
      })),
    );
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
    copy.kept = [...this.kept];
    return copy;
  }

  mark(): void {
    // Pages keep everything.
  }

  canRewind(): boolean {
    return true;
  }

  rewind(length: number): void {
    this.kept = this.kept.flatMap(({ start, count }) =>
      start < length ? [{ start, count: Math.min(count, length - start) }] : [],
    );
    this.own.rewind(this.kept.reduce((sum, { count }) => sum + count, 0));
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

  shape(): string {
    return this.own.shape();
  }

  resume(): never {
    throw new TypeError('steps of several ranks are not recorded');
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
