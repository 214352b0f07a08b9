/**
 * Memories of models whose sequences are divided over ranks. Keys and values stay on the rank that made them, and attention to
 * each rank's part is merged. What has a constant size is handed from rank to rank with the slices of a run, and all ranks have
 * it between runs; so a short run, which every rank computes whole, needs nothing of the others but their part of attention.
 */
import type { Communicator } from '../../distributed/communicator.js';
import { broadcastTensors, receiveTensors, sendTensors, type Shapes } from '../../ops/index.js';
import type * as tf from '../../tf.js';
import type { Rotation, Rows } from '../layers/heads.js';
import { UsageError } from '../../errors.js';
import { RecurrentState, WindowRing } from './constant.js';
import { DividedKeys } from './divided-keys.js';
import { SHORT_RUNS } from './kept-positions.js';
import type { DividedMemory, Memory, MemoryOptions, SelfMemory, StateMemory, StateStep } from './memory.js';
import { PagedMemory } from './pages.js';

/** What one rank's memories are made for: its slices, and what short runs add. */
export function shareOfRank(options: MemoryOptions, { size }: Communicator): MemoryOptions {
  const { maxTokens } = options;
  if (maxTokens === undefined) return options;
  return { ...options, maxTokens: Math.ceil(maxTokens / size) + SHORT_RUNS };
}

/** What nobody can do with a sequence that ranks divide. */
export const undividedKeys = (): UsageError =>
  new UsageError(
    'compressed keys and values (--kv-dtype) cannot be divided over ranks (--context-parallel): leave one of the two out',
  );

/** @param memory empty */
export function divideMemory(memory: Memory, ranks: Communicator): DividedMemory {
  if (memory instanceof PagedMemory) return new DividedKeys(memory, ranks);
  if (memory instanceof RecurrentState || memory instanceof WindowRing) return new HandedOn(memory, ranks);
  throw undividedKeys();
}

/** A recurrent state or a window. */
class HandedOn implements DividedMemory, SelfMemory, StateMemory {
  readonly grows = false;
  /** After the last run of slices. */
  private shapeBefore = '';
  /** Whether two such runs left the same shapes: what has a constant size is then full, and all ranks know it. */
  private steady = false;

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
    if (isSlice && rank > 0) {
      const before = receiveTensors(this.ranks, rank - 1, this.steady ? this.shapes : null);
      this.own.restore(before as tf.Tensor4D[]);
    }
    const mixed = mix();
    if (isSlice && rank < size - 1) sendTensors(this.ranks, this.own.carried(), rank + 1, this.steady);
    return mixed;
  }

  unite(): void {
    const last = broadcastTensors(this.ranks, this.own.carried(), this.ranks.size - 1, this.steady);
    this.own.restore(last as tf.Tensor4D[]);
    const shape = this.own.shape();
    this.steady = shape === this.shapeBefore;
    this.shapeBefore = shape;
  }

  private get shapes(): Shapes {
    return this.own.carried().map((tensor) => tensor.shape);
  }

  get isWritable(): boolean {
    return this.own.isWritable;
  }

  get bytes(): number {
    return this.own.bytes;
  }

  fork(): HandedOn {
    const copy = new HandedOn(this.own.fork() as RecurrentState | WindowRing, this.ranks);
    copy.shapeBefore = this.shapeBefore;
    copy.steady = this.steady;
    return copy;
  }

  mark(length: number): void {
    this.own.mark(length);
  }

  canRewind(length: number): boolean {
    return this.own.canRewind(length);
  }

  rewind(length: number): void {
    this.shapeBefore = '';
    this.steady = false;
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
