/** Memories of constant size: recurrent states and rings of a window. */
import {
  causalAttention,
  inOrder,
  joined,
  type KeysAndValues,
  ringOf,
  rotaryPair,
  storedBytes,
  withPosition,
} from '../../ops/index.js';
import * as tf from '../../tf.js';
import { rotationAt, type Rotation, type Rows } from '../layers/heads.js';
import type { Memory, SelfMemory, StateMemory, StateStep } from './memory.js';

/** Tensors that are replaced as positions come; empty before the first. */
abstract class ConstantMemory implements Memory {
  readonly grows = false;
  protected tensors: tf.Tensor4D[] = [];
  /** Whether a fork or a mark reads the same memory: then it must not be written to. */
  private shared = false;
  /** Earlier tensors by the length they belong to. */
  private readonly marks = new Map<number, tf.Tensor4D[]>();

  /** Takes the tensors over: they outlive the surrounding tidy. */
  protected replace(tensors: readonly tf.Tensor4D[]): void {
    for (const tensor of tensors) tf.keep(tensor);
    tf.dispose(this.tensors);
    this.tensors = [...tensors];
    this.shared = false;
  }

  get isWritable(): boolean {
    return !this.shared;
  }

  get bytes(): number {
    return this.tensors.reduce((sum, tensor) => sum + storedBytes(tensor), 0);
  }

  protected abstract empty(): ConstantMemory;

  fork(): Memory {
    const copy = this.empty();
    copy.share(this.tensors);
    this.shared = true;
    return copy;
  }

  /** Reads the same memory as others, until it is replaced. */
  private share(tensors: readonly tf.Tensor4D[]): void {
    this.replace(tensors.map((tensor) => tf.clone(tensor)));
    this.shared = true;
  }

  mark(length: number): void {
    tf.dispose(this.marks.get(length) ?? []);
    this.marks.set(
      length,
      this.tensors.map((tensor) => tf.keep(tf.clone(tensor))),
    );
    this.shared = true;
  }

  canRewind(length: number): boolean {
    return length === 0 || this.marks.has(length);
  }

  rewind(length: number): void {
    if (!this.canRewind(length)) throw new RangeError(`no state after ${length} positions is marked`);
    this.share(this.marks.get(length) ?? []);
    for (const [marked, tensors] of this.marks) {
      if (marked <= length) continue;
      tf.dispose(tensors);
      this.marks.delete(marked);
    }
  }

  dispose(): void {
    this.replace([]);
    tf.dispose([...this.marks.values()].flat());
    this.marks.clear();
  }

  written(): readonly tf.Tensor[] {
    return this.tensors;
  }

  carried(): readonly tf.Tensor4D[] {
    return this.tensors;
  }

  restore(tensors: readonly tf.Tensor4D[]): void {
    this.replace(tensors);
  }

  shape(): string {
    return this.tensors.map((tensor) => tensor.shape.join()).join(' ');
  }

  settle(): void {
    // Everything it holds is for the next call.
  }

  resume(): void {
    // What the tensors hold is what they hold at any length.
  }
}

/** Bytes of an element of a recurrent state, which sums over the whole context and is float32 whatever the storage. */
export const STATE_BYTES = 4;

/** A state that sums over all positions. */
export class RecurrentState extends ConstantMemory implements StateMemory {
  protected empty(): RecurrentState {
    return new RecurrentState();
  }

  advance<Inputs extends readonly tf.Tensor[]>(
    inputs: Inputs,
    rows: Rows,
    step: StateStep<Inputs>,
  ): tf.Tensor {
    const { output, state } = step(inputs, this.tensors, rows);
    this.replace(state);
    return output;
  }
}

/** The keys and values of the last `window` positions, as a ring. */
export class WindowRing extends ConstantMemory implements SelfMemory {
  constructor(private readonly window: number) {
    super();
  }

  protected empty(): WindowRing {
    return new WindowRing(this.window);
  }

  extend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    const { window } = this;
    const [queries, keys] = rotation ? rotaryPair(q, k, rotationAt(rows, rotation)) : [q, k];
    if (rotation) tf.dispose([q, k]);
    const now: KeysAndValues = [keys, v];
    const ring = this.tensors as unknown as readonly [] | KeysAndValues;
    if (queries.shape[1] === 1 && ring.length !== 0 && ring[0].shape[1] === window) {
      const next = withPosition(ring, now, rows.start, this.isWritable);
      if (next !== ring) this.replace(next);
      // One position sees all of a full window, whatever the order.
      return causalAttention(queries, ...next, {});
    }
    const all = ring.length === 0 ? now : joined(inOrder(ring, rows.start, window), now);
    this.replace(ringOf(all, rows.start + queries.shape[1], window));
    return causalAttention(queries, ...all, { window });
  }
}
