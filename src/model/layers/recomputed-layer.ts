/** A layer of a whole pass that keeps only its inputs for the backward pass and computes the rest again. */
import { recomputed, recomputedAll } from '../../ops/index.js';
import * as tf from '../../tf.js';
import type { Memory } from '../state/memory.js';
import { type PassedKeys, PresentKeys } from '../state/present.js';
import { ChainedMemory } from '../state/present-divided.js';
import type { Rows } from './heads.js';
import type { Layer } from './layer.js';
import { Readout } from './readout.js';

/** What a layer shares with others; each is of the pass. */
export interface Shared {
  readonly memory: Memory;
  readonly readout: Readout;
  /** Whether it reads the keys and values of another layer, the readout of another, or neither. */
  readonly reads: 'keys' | 'readout' | 'nothing';
  /** Whether later layers read its keys and values, its readout, or neither. */
  readonly offers: 'keys' | 'readout' | 'nothing';
}

/** @param x [B, T, dim]; disposed of */
export function recomputedLayer(layer: Layer, x: tf.Tensor3D, rows: Rows, shared: Shared): tf.Tensor3D {
  const { memory, readout, reads, offers } = shared;
  const chained = memory instanceof ChainedMemory ? memory : null;
  const read = reads === 'keys' ? keysOf(memory) : reads === 'readout' ? [readout.value] : [];
  // What a rank takes over and hands on is sent once: the layer between is what is computed again.
  const received = chained?.take(x) ?? [];
  /** One pass through the layer: its output, what it offers to others, and what it hands on. */
  const compute = (...inputs: tf.Tensor[]): tf.Tensor[] => {
    const [x, ...others] = inputs as [tf.Tensor, ...tf.Tensor[]];
    const [keys, values] = others as [tf.Tensor, tf.Tensor];
    const slice = chained?.slice(others.slice(read.length)) ?? null;
    const own = slice ?? (offers === 'keys' ? (memory as PassedKeys).another() : memory);
    const seen = reads === 'keys' ? PresentKeys.of(keys, values) : own;
    const out = reads === 'readout' ? Readout.of(keys) : new Readout(offers === 'readout');
    const y = layer.forward(x as tf.Tensor3D, rows, seen, out);
    const offered = offers === 'keys' ? keysOf(own) : offers === 'readout' ? [out.value] : [];
    return [y, ...offered, ...(slice?.after ?? [])];
  };
  const inputs = [x, ...read, ...received];
  if (offers === 'nothing' && chained === null) {
    return recomputed((...all) => compute(...all)[0] as tf.Tensor, inputs, layer.weights) as tf.Tensor3D;
  }
  const [y, ...made] = recomputedAll(compute, inputs, layer.weights) as [tf.Tensor3D, ...tf.Tensor[]];
  const [first, second] = made as [tf.Tensor, tf.Tensor];
  if (offers === 'keys') (memory as PassedKeys).adopt(first, second);
  else if (offers === 'readout') readout.offer(() => first as tf.Tensor3D);
  if (chained === null) return y;
  const after = made.slice(offers === 'readout' ? 1 : 0);
  const same = chained.give(y, after);
  tf.dispose([...received, ...after]);
  return same;
}

const keysOf = (memory: Memory): tf.Tensor[] => (memory as PassedKeys).keysAndValues;
