/**
 * What parts of a model remember of earlier positions, behind one interface: growing pages of keys and values, rings of
 * a window, recurrent states. Nothing outside this folder knows which there are.
 *
 * Where the rows of a call stand in their sequences is said by `Rows` alone.
 */
import type { CacheType } from '../../ops/index.js';
import type * as tf from '../../tf.js';
import type { Rotation, Rows } from '../layers/heads.js';

export interface Memory {
  /** Whether it grows with the context, or has a constant size. */
  readonly grows: boolean;
  /** Bytes of its tensors as the engine stores them; what is shared with forks counts in each. */
  readonly bytes: number;
  /** The same contents, independent from here on; tensors are shared until one side changes them. */
  fork(): Memory;
  /** Remembers the present state, after `length` positions, as one to return to. */
  mark(length: number): void;
  canRewind(length: number): boolean;
  /** Forgets the positions from `length` on. @throws RangeError where `canRewind` is false */
  rewind(length: number): void;
  dispose(): void;

  // What a recorded decoding step (`step-replay.ts`) must know.

  /** Whether the next position changes tensors in place, and neither adds nor replaces any. */
  readonly isWritable: boolean;
  /** The tensors that the next position changes. */
  written(): readonly tf.Tensor[];
  /** Those of them that a computed step replaces by others of equal shapes. */
  carried(): readonly tf.Tensor4D[];
  /** Takes tensors over in place of the carried ones. */
  restore(tensors: readonly tf.Tensor4D[]): void;
  /** Equal before and after a step that may be recorded. */
  shape(): string;
  /**
   * Of keys that ranks divide: how many this one has, and a number, the same on all ranks, that changes when recordings must end.
   * Recorded steps talk to the other ranks, so that all ranks must begin and end them together.
   */
  readonly division?: { readonly keys: number; readonly era: number };
  /** Releases what only the queries of the last call needed: a model calls it when all its parts have run. */
  settle(): void;
  /** Sets the length within what is allocated: a recorded step has written, or is to be run again. */
  resume(length: number): void;
}

/** A memory of this rank, one of several. */
export interface DividedMemory extends Memory {
  /** After a run of which every rank had a slice: what follows may be computed on any rank. */
  unite(): void;
}

/** Keys and values of a layer of its own: it appends and attends at once. */
export interface SelfMemory extends Memory {
  /**
   * Appends the keys and values of the next rows, and attends to what their queries see.
   * @param q [B, T, Hq, D], @param k, @param v [B, T, Hkv, D]; q and k are not rotated yet, and are disposed of
   * @returns [B, T, Hq, D]
   */
  extend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D;
}

/** Keys and values of all positions, which later layers may read. */
export interface KeyValueMemory extends SelfMemory {
  /** Appends the keys, not rotated yet, and values of the next rows: each [B, T, Hkv, D]. */
  append(k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): void;
  /**
   * Attends to everything appended.
   * @param q [B, T, Hq, D], not rotated yet; disposed of
   */
  attend(q: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D;
}

/** What rows make of a state: their output [B, T, ...], and the state after them. */
export interface StateChange {
  readonly output: tf.Tensor;
  readonly state: readonly tf.Tensor4D[];
}

/**
 * Mixes rows that follow a state.
 * @param inputs each [B, T, ...], with B and T as the state's memory is called with; may be disposed of
 * @param state the tensors after the last position; none before the first
 */
export type StateStep<Inputs extends readonly tf.Tensor[]> = (
  inputs: Inputs,
  state: readonly tf.Tensor4D[],
  rows: Rows,
) => StateChange;

/** Tensors that summarise all earlier positions. */
export interface StateMemory extends Memory {
  /**
   * Mixes the next rows by `step` and takes over the state after them, which outlives the surrounding tidy. Everything that
   * mixes positions belongs into the step: several sequences may be packed into the rows, and each is then a step of its own.
   * @param inputs each [B, T, ...], one row per position
   * @returns the output of the step, [B, T, ...]
   */
  advance<Inputs extends readonly tf.Tensor[]>(
    inputs: Inputs,
    rows: Rows,
    step: StateStep<Inputs>,
  ): tf.Tensor;
}

/** What a memory is made for. */
export interface MemoryOptions {
  /** Sequences side by side. */
  readonly batch: number;
  /** Positions it is going to hold at most, when known. */
  readonly maxTokens?: number;
  /** Positions per page of keys and values; default: chosen by `maxTokens`. */
  readonly pageSize?: number;
  /** How keys and values of a whole context are stored; null: as the engine stores tensors. */
  readonly type?: CacheType | null;
}
