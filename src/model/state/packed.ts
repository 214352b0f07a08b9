/**
 * The memories of several sequences as one, for rows in which the sequences lie one after the other, [1, N, ...], without
 * padding. What computes rows by themselves (projections, norms, feed-forward networks) sees one long row; what mixes
 * positions is given each sequence's rows and its own memory, so that no sequence sees another.
 */
import { sliceAxis } from '../../ops/index.js';
import * as tf from '../../tf.js';
import type { Rotation, Rows } from '../layers/heads.js';
import type { KeyValueMemory, Memory, SelfMemory, StateMemory, StateStep } from './memory.js';
import { PresentMemory } from './present.js';

/** Consecutive rows of one sequence. */
export interface Span {
  readonly memory: Memory;
  /** Position of the first row in its sequence. */
  readonly start: number;
  readonly count: number;
}

export class PackedMemory extends PresentMemory implements KeyValueMemory, StateMemory {
  constructor(private readonly spans: readonly Span[]) {
    super();
  }

  extend(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, _: Rows, rotation: Rotation): tf.Tensor4D {
    return this.each([q, k, v], (memory, [q, k, v], rows) =>
      (memory as SelfMemory).extend(q, k, v, rows, rotation),
    ) as tf.Tensor4D;
  }

  append(k: tf.Tensor4D, v: tf.Tensor4D, _: Rows, rotation: Rotation): void {
    for (const [span, [keys, values]] of this.split([k, v])) {
      (span.memory as KeyValueMemory).append(keys, values, rowsOf(span), rotation);
    }
  }

  attend(q: tf.Tensor4D, _: Rows, rotation: Rotation): tf.Tensor4D {
    return this.each([q], (memory, [q], rows) =>
      (memory as KeyValueMemory).attend(q, rows, rotation),
    ) as tf.Tensor4D;
  }

  advance<Inputs extends readonly tf.Tensor[]>(inputs: Inputs, _: Rows, step: StateStep<Inputs>): tf.Tensor {
    return this.each(inputs, (memory, parts, rows) => (memory as StateMemory).advance(parts, rows, step));
  }

  dispose(): void {
    // Its memories belong to their caches.
  }

  /** The outputs of all spans, one after the other. */
  private each<Inputs extends readonly tf.Tensor[] | []>(
    inputs: Inputs,
    mix: (memory: Memory, parts: Inputs, rows: Rows) => tf.Tensor,
  ): tf.Tensor {
    return tf.tidy(() => {
      const outputs = this.split(inputs).map(([span, parts]) => mix(span.memory, parts, rowsOf(span)));
      return outputs.length === 1 ? (outputs[0] as tf.Tensor) : tf.concat(outputs, 1);
    });
  }

  /** The rows of every span. */
  private split<Inputs extends readonly tf.Tensor[] | []>(inputs: Inputs): [Span, Inputs][] {
    let from = 0;
    return this.spans.map((span) => {
      const parts = inputs.map((x) => sliceAxis(x, 1, from, span.count));
      from += span.count;
      return [span, parts as unknown as Inputs];
    });
  }
}

const rowsOf = ({ start }: Span): Rows => ({ start, positions: null });
