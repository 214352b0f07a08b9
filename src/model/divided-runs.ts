/** How tokens are divided over ranks: slices of equal length as far as they go, and what remains on every rank. */
import type { Communicator } from '../distributed/communicator.js';
import * as tf from '../tf.js';
import { FROM_START, type Rows } from './layers/heads.js';
import type { LogitsWanted } from './language-model.js';

/** Where the `time` tokens of a pass stand: they are whole sequences, or this rank's slices of them. */
export function passRows(time: number, positions: Int32Array | null, { rank, size }: Communicator): Rows {
  if (size === 1) return FROM_START;
  if (positions !== null) {
    throw new RangeError('losses at chosen positions are not computed of sequences divided over ranks');
  }
  return { start: rank * time, positions: null, isSlice: true };
}

export interface DividedRun {
  readonly from: number;
  readonly to: number;
  /** Whether every rank computes a slice of it, or all of it. */
  readonly isDivided: boolean;
}

/** Fewer tokens a rank are not worth the messages. */
const LEAST = 16;

/** The last token stays out of the slices where its logits are asked for: every rank needs them. */
export function dividedRuns(count: number, logits: LogitsWanted, ranks: number): DividedRun[] {
  const available = logits === 'last' ? count - 1 : count;
  const share = ranks === 1 ? 0 : Math.floor(available / ranks);
  const end = share < LEAST ? 0 : share * ranks;
  const runs = [
    { from: 0, to: end, isDivided: true },
    { from: end, to: count, isDivided: false },
  ];
  return runs.filter(({ from, to }) => to > from);
}

/** Of runs one after the other; the parts are disposed of. */
export function joinLogits(
  parts: readonly tf.Tensor[],
  logits: LogitsWanted,
): tf.Tensor2D | tf.Tensor3D | null {
  const last = parts.at(-1) ?? null;
  if (parts.length < 2 || logits !== 'all') return last as tf.Tensor2D | tf.Tensor3D | null;
  const all = tf.concat(parts as tf.Tensor3D[], 1);
  tf.dispose([...parts]);
  return all;
}
