/**
 * How the ranks of a run talk. Two transports implement it: NCCL between GPUs and MPI between CPU processes. Every rank calls the
 * same collectives in the same order with tensors of the same shapes; which one a rank is must not decide what it calls.
 */
import * as tf from '../tf.js';

export type Reduction = 'sum' | 'max';

/**
 * Of floats on the way: as the tensor is kept, which must then be alike on all ranks; in 32 bits; or as the engine stores tensors,
 * after which a float32 original alone stays.
 */
export type Precision = 'kept' | 'float32' | 'stored';

export interface Outgoing {
  readonly x: tf.Tensor;
  readonly to: number;
}

export interface Incoming {
  readonly shape: readonly number[];
  readonly dtype: 'float32' | 'int32';
  readonly from: number;
}

/** What a collective is going to give. */
export interface Pending<T> {
  /** What is computed from here on waits for it; to be called once. */
  result(): T;
}

export interface Communicator {
  readonly rank: number;
  readonly size: number;
  /** For provenance: `NCCL 2.28.9`, `Open MPI v4.1.4`. */
  readonly description: string;

  /** The reduction over all ranks of tensors of equal shapes, a new tensor on every rank. float32 or int32. */
  allReduce<T extends tf.Tensor>(x: T, reduction?: Reduction): T;

  /** Sums x [size * n] over all ranks; rank r keeps elements r n to (r + 1) n - 1: [n]. */
  reduceScatter(x: tf.Tensor1D): tf.Tensor1D;

  /**
   * The same, while this rank computes on: NCCL runs it beside what is queued later. All ranks start in the same order, and no
   * tensor is read before its `result`, which outlives the surrounding tidy.
   */
  startReduceScatter(x: tf.Tensor1D): Pending<tf.Tensor1D>;

  /** The x [n] of all ranks, one after the other in the order of ranks: [size * n]. @param precision default `kept` */
  allGather(x: tf.Tensor1D, precision?: Precision): tf.Tensor1D;

  /** The x of rank `root` on every rank, in 32 bits. */
  broadcast<T extends tf.Tensor>(x: T, root: number): T;

  /**
   * Sends a tensor to one rank and receives one from another, at the same time and in 32 bits; either may be null. The receiver
   * must know shape and type.
   */
  exchange(send: Outgoing | null, receive: Incoming | null): tf.Tensor | null;

  /** Returns when every rank has called it. */
  barrier(): void;

  /** A short JSON value of every rank, in the order of ranks. For settings and provenance, not for tensors. */
  gather(value: unknown): unknown[];

  /** The ranks that give the same color, in their order, as a communicator of their own. Every rank calls it. */
  split(color: number): Communicator;

  /** Ends the other ranks after a failure of this one, so that none waits for it. */
  abort(exitCode: number): never;

  /** After the last collective. */
  close(): void;
}

/** What is there at once. */
export const at = <T>(value: T): Pending<T> => ({ result: () => value });

/** The place of a rank among those of its color. */
export function placeIn(colors: readonly unknown[], rank: number): { rank: number; size: number } {
  const own = colors.flatMap((color, other) => (color === colors[rank] ? [other] : []));
  return { rank: own.indexOf(rank), size: own.length };
}

/** One process alone: every collective is the identity. */
export const SOLO: Communicator = {
  rank: 0,
  size: 1,
  description: 'one process',
  allReduce: (x) => x.clone(),
  reduceScatter: (x) => x.clone(),
  startReduceScatter: (x) => at(tf.keep(x.clone())),
  allGather: (x) => x.clone(),
  broadcast: (x) => x.clone(),
  exchange(send, receive) {
    if (send === null && receive === null) return null;
    throw new RangeError('one process alone has no other to talk to');
  },
  barrier() {
    // Nobody to wait for.
  },
  gather: (value) => [value],
  split: () => SOLO,
  abort: (exitCode) => process.exit(exitCode),
  close() {
    // Nothing was opened.
  },
};
