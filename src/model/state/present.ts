/**
 * Memories of a single pass over whole sequences, as in training: they hold what the pass itself has computed, with its
 * gradients, and are gone after it.
 */
import { causalAttention, rotary, rotaryPair } from '../../ops/index.js';
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
}

/** The keys and values of the pass. */
export class PresentKeys extends PresentMemory implements PassedKeys {
  private held: [keys: tf.Tensor4D, values: tf.Tensor4D] | null = null;

  /**
   * @param isRead whether later layers read them: they are then kept until `dispose`
   * @param window positions a query sees; null: all before it
   */
  constructor(
    private readonly isRead: boolean,
    private readonly window: number | null = null,
  ) {
    super();
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
    this.hold(rotation === null ? k : rotary(k, rotationAt(rows, rotation)), v);
  }

  attend(q: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    const queries = rotation === null ? q : rotary(q, rotationAt(rows, rotation));
    if (rotation !== null) q.dispose();
    return causalAttention(queries, ...this.keysAndValues, { positions: rows.positions });
  }

  extend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    const [queries, keys] = rotation === null ? [q, k] : rotaryPair(q, k, rotationAt(rows, rotation));
    if (rotation !== null) tf.dispose([q, k]);
    if (this.isRead) this.hold(keys, v);
    return causalAttention(queries, keys, v, { window: this.window });
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
