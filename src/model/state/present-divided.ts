/** Memories of a single pass in which every rank has a slice of the sequences: values go to the next rank, gradients come back. */
import type { Communicator } from '../../distributed/communicator.js';
import { causalAttention, handOn, joined, rotaryPair, sliceAxis, takeOver } from '../../ops/index.js';
import * as tf from '../../tf.js';
import { rotationAt, type Rotation, type Rows } from '../layers/heads.js';
import type { Memory, SelfMemory, StateMemory, StateStep } from './memory.js';
import { PresentKeys, PresentMemory, PresentState } from './present.js';

/** @param memory of a pass over whole sequences */
export function dividePresent(memory: Memory, ranks: Communicator): Memory {
  if (memory instanceof PresentState) return new ChainedState(ranks);
  if (memory instanceof PresentKeys) {
    return memory.window === null ? memory.gathering(ranks) : new ChainedWindow(ranks, memory.window);
  }
  throw new TypeError('a memory of this kind cannot be divided over ranks');
}

/** The memory of a slice that begins with what it was given. */
export interface SliceMemory extends Memory {
  /** What the next slice begins with, kept until `dispose`; once the slice has been computed. */
  readonly after: readonly tf.Tensor[];
}

/** A memory that each rank hands on to the next. */
export abstract class ChainedMemory extends PresentMemory {
  constructor(protected readonly ranks: Communicator) {
    super();
  }

  /** What the rank before hands on: nothing on the first. @param anchor as in `takeOver` */
  take(anchor: tf.Tensor): tf.Tensor[] {
    return this.ranks.rank === 0 ? [] : takeOver(anchor, this.ranks);
  }

  /** Hands on what remains of the slice; y, to be used in its place. */
  give<T extends tf.Tensor>(y: T, after: readonly tf.Tensor[]): T {
    return this.ranks.rank === this.ranks.size - 1 ? y : handOn(y, after, this.ranks);
  }

  /** A memory of this slice alone. */
  abstract slice(received: readonly tf.Tensor[]): SliceMemory;

  /** The whole way of a slice; what remains of it goes to the next rank at once. */
  protected through<M extends SliceMemory, T extends tf.Tensor>(
    anchor: tf.Tensor,
    slice: (received: readonly tf.Tensor[]) => M,
    mix: (memory: M) => T,
  ): T {
    return tf.tidy(() => {
      const memory = slice(this.take(anchor));
      const y = this.give(mix(memory), memory.after);
      memory.dispose();
      return y;
    });
  }

  dispose(): void {
    // Holds nothing.
  }
}

class ChainedState extends ChainedMemory implements StateMemory {
  override slice(received: readonly tf.Tensor[]): StateSlice {
    return new StateSlice(received as readonly tf.Tensor4D[]);
  }

  advance<Inputs extends readonly tf.Tensor[]>(
    inputs: Inputs,
    rows: Rows,
    step: StateStep<Inputs>,
  ): tf.Tensor {
    const slice = (received: readonly tf.Tensor[]): StateSlice => this.slice(received);
    return this.through(smallest(inputs), slice, (memory) => memory.advance(inputs, rows, step));
  }
}

class StateSlice extends PresentMemory implements SliceMemory, StateMemory {
  after: readonly tf.Tensor[] = [];

  constructor(private readonly received: readonly tf.Tensor4D[]) {
    super();
  }

  advance<Inputs extends readonly tf.Tensor[]>(
    inputs: Inputs,
    rows: Rows,
    step: StateStep<Inputs>,
  ): tf.Tensor {
    const { output, state } = step(inputs, this.received, rows);
    this.after = state.map((tensor) => tf.keep(tensor));
    return output;
  }

  dispose(): void {
    tf.dispose([...this.after]);
  }
}

/** The last keys and values before a slice, as many as its first query sees. */
class ChainedWindow extends ChainedMemory implements SelfMemory {
  constructor(
    ranks: Communicator,
    private readonly window: number,
  ) {
    super(ranks);
  }

  override slice(received: readonly tf.Tensor[]): WindowSlice {
    return new WindowSlice(this.window, received as readonly tf.Tensor4D[]);
  }

  extend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    const slice = (received: readonly tf.Tensor[]): WindowSlice => this.slice(received);
    return this.through(v, slice, (memory) => memory.extend(q, k, v, rows, rotation));
  }
}

class WindowSlice extends PresentMemory implements SliceMemory, SelfMemory {
  after: readonly tf.Tensor[] = [];

  constructor(
    private readonly window: number,
    private readonly received: readonly tf.Tensor4D[],
  ) {
    super();
  }

  extend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, rows: Rows, rotation: Rotation): tf.Tensor4D {
    const [queries, keys] = rotation === null ? [q, k] : rotaryPair(q, k, rotationAt(rows, rotation));
    if (rotation !== null) tf.dispose([q, k]);
    const [keysBefore, valuesBefore] = this.received;
    const all =
      keysBefore && valuesBefore && keysBefore.size > 0
        ? joined([keysBefore, valuesBefore], [keys, v])
        : ([keys, v] as const);
    const held = all[0].shape[1];
    const kept = Math.min(held, this.window - 1);
    this.after = all.map((x) => tf.keep(sliceAxis(x, 1, held - kept, kept)));
    return causalAttention(queries, ...all, { window: this.window });
  }

  dispose(): void {
    tf.dispose([...this.after]);
  }
}

function smallest(tensors: readonly tf.Tensor[]): tf.Tensor {
  return tensors.reduce((a, b) => (b.size < a.size ? b : a));
}
