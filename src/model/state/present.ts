/**
 * Memories of a single pass over whole sequences, as in training: they hold what the pass itself has computed, with its
 * gradients, and are gone after it.
 */
import type { Communicator } from '../../distributed/communicator.js';
import { causalAttention, gatherSlices, rotary, rotaryPair, sliceAxis } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { rotationAt, type Rotation, type Rows } from '../layers/heads.js';
import type { KeyValueMemory, Memory, StateMemory, StateStep } from './memory.js';

const refuse = (): never => {
  throw new TypeError('the memory of a pass has no earlier positions');
};

/** A memory of one pass: it cannot be forked, marked or returned to. */
export abstract class PresentMemory implements Memory {
  readonly grows = false;
  readonly bytes = 0;
  readonly isWritable = false;
  fork = refuse;
  mark = refuse;
  canRewind = (): boolean => false;
  rewind = refuse;
  written = refuse;
  carried = refuse;
  restore = refuse;
  shape = refuse;
  settle = refuse;
  resume = refuse;
  abstract dispose(): void;
}

/** No state: a pass begins with the first position and keeps nothing. */
export class PresentState extends PresentMemory implements StateMemory {
  advance<Inputs extends readonly tf.Tensor[]>(
    inputs: Inputs,
    rows: Rows,
    step: StateStep<Inputs>,
  ): tf.Tensor {
    // The tidy around disposes of the last state.
    return step(inputs, [], rows).output;
  }

  dispose(): void {
    // Holds nothing.
  }
}

/** Keys and values of a pass that layers hand to each other. */
export interface PassedKeys extends KeyValueMemory {
  /** Each [B, T, Hkv, D], keys rotated. */
  readonly keysAndValues: [keys: tf.Tensor4D, values: tf.Tensor4D];
  /** Takes over keys and values that a recomputed layer has made. */
  adopt(keys: tf.Tensor, values: tf.Tensor): void;
  /** One of the same kind that holds nothing. */
  another(): PassedKeys;
}

/** Attention of the rows to all keys; of ranks' parts of sequences, each stretch to the keys up to its last. */
function attendRows(
  q: tf.Tensor4D,
  [keys, values]: readonly [tf.Tensor4D, tf.Tensor4D],
  { start, second, positions, isSlice }: Rows,
  window: number | null,
): tf.Tensor4D {
  if (isSlice !== true) return causalAttention(q, keys, values, { window, positions });
  const stretches = second === undefined ? [start] : [start, second];
  const count = q.shape[1] / stretches.length;
  const parts = stretches.map((from, i) => {
    const seen = (x: tf.Tensor4D): tf.Tensor4D => sliceAxis(x, 1, 0, from + count);
    const own = stretches.length === 1 ? q : sliceAxis(q, 1, i * count, count);
    return causalAttention(own, seen(keys), seen(values));
  });
  return parts.length === 1 ? (parts[0] as tf.Tensor4D) : tf.concat(parts, 1);
}

/** The keys and values of the pass. */
export class PresentKeys extends PresentMemory implements PassedKeys {
  private held: [keys: tf.Tensor4D, values: tf.Tensor4D] | null = null;
  /** Where each has a slice of the sequences. */
  private ranks: Communicator | null = null;

  /**
   * @param isRead whether later layers read them: they are then kept until `dispose`
   * @param window positions a query sees; null: all before it
   */
  constructor(
    private readonly isRead: boolean,
    readonly window: number | null = null,
  ) {
    super();
  }

  /** The same over the keys and values of all ranks, each of which computes a slice. */
  gathering(ranks: Communicator): PresentKeys {
    const memory = this.another();
    memory.ranks = ranks;
    return memory;
  }

  another(): PresentKeys {
    const memory = new PresentKeys(this.isRead, this.window);
    memory.ranks = this.ranks;
    return memory;
  }

  /** Of tensors that belong to someone else. */
  static of(keys: tf.Tensor, values: tf.Tensor): PresentKeys {
    const memory = new PresentKeys(false);
    memory.held = [keys as tf.Tensor4D, values as tf.Tensor4D];
    return memory;
  }

  get keysAndValues(): [keys: tf.Tensor4D, values: tf.Tensor4D] {
    return this.held ?? refuse();
  }

  append(k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): void {
    const keys = rotation === null ? k : rotary(k, rotationAt(rows, rotation));
    this.hold(...this.whole(rows, keys, v));
  }

  /** Keys and values of all positions, where ranks have parts of them. */
  private whole({ second }: Rows, keys: tf.Tensor4D, values: tf.Tensor4D): [tf.Tensor4D, tf.Tensor4D] {
    const { ranks } = this;
    if (ranks === null) return [keys, values];
    const stretches = second === undefined ? 1 : 2;
    return [gatherSlices(keys, ranks, stretches), gatherSlices(values, ranks, stretches)];
  }

  attend(q: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    const queries = rotation === null ? q : rotary(q, rotationAt(rows, rotation));
    if (rotation !== null) q.dispose();
    return attendRows(queries, this.keysAndValues, rows, null);
  }

  extend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    const [queries, keys] = rotation === null ? [q, k] : rotaryPair(q, k, rotationAt(rows, rotation));
    if (rotation !== null) tf.dispose([q, k]);
    const all = this.whole(rows, keys, v);
    if (this.isRead) this.hold(...all);
    return attendRows(queries, all, rows, this.window);
  }

  private hold(keys: tf.Tensor4D, values: tf.Tensor4D): void {
    this.held = [tf.keep(keys), tf.keep(values)];
  }

  adopt(keys: tf.Tensor, values: tf.Tensor): void {
    this.hold(keys as tf.Tensor4D, values as tf.Tensor4D);
  }

  dispose(): void {
    if (this.isRead && this.held) tf.dispose(this.held);
  }
}
