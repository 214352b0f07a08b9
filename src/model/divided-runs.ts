/** How tokens are divided over ranks: slices of equal length as far as they go, and what remains on every rank. */
import type { Communicator } from '../distributed/communicator.js';
import { gatherSlices, sliceAxis } from '../ops/index.js';
import * as tf from '../tf.js';
import { FROM_START, type Rows } from './layers/heads.js';
import type { LogitsWanted } from './language-model.js';

/** Columns of a sequence that follow each other. */
export interface Stretch {
  readonly from: number;
  readonly count: number;
}

/**
 * How a rank's part of a sequence lies in it. Of N ranks rank r has slice r of N (`slice`): what is handed from slice to slice needs
 * them in their order. Where attention alone mixes positions it has slices r and 2N - 1 - r of 2N (`zigzag`), so that all ranks
 * have as many pairs of queries and keys to compute (Llama 3, arXiv 2407.21783, section 3.3.2).
 */
export type Division = 'slice' | 'zigzag';

/** A part of odd length is never halved. */
const divisionOf = (time: number, ranks: Communicator, wanted: Division): Division =>
  ranks.size > 1 && time % 2 === 0 ? wanted : 'slice';

/** Where the `time` tokens that this rank has of a sequence lie, in their order. */
export function ownStretches(time: number, ranks: Communicator, wanted: Division): Stretch[] {
  const { rank, size } = ranks;
  if (divisionOf(time, ranks, wanted) === 'slice') return [{ from: rank * time, count: time }];
  const count = time / 2;
  return [rank, 2 * size - 1 - rank].map((slice) => ({ from: slice * count, count }));
}

/** Where the tokens [B, T] of a pass stand: they are whole sequences, or this rank's stretches of them. */
export function passRows(
  [batch, time]: readonly [number, number],
  positions: Int32Array | null,
  ranks: Communicator,
  wanted: Division,
): Rows {
  if (ranks.size === 1) return FROM_START;
  if (positions !== null) {
    throw new RangeError('losses at chosen positions are not computed of sequences divided over ranks');
  }
  const [first, second] = ownStretches(time, ranks, wanted);
  const rows: Rows = { start: first?.from ?? 0, positions: null, isSlice: true };
  if (second === undefined) return rows;
  const row = [first, second].flatMap((stretch) =>
    Array.from({ length: time / 2 }, (_, i) => (stretch?.from ?? 0) + i),
  );
  return {
    ...rows,
    positions: Int32Array.from({ length: batch * time }, (_, i) => row[i % time] ?? 0),
    second: second.from,
  };
}

/** Rows [B, T, D] of this rank's slice; in their place those of its parts in zigzag, which other ranks have. */
export function inZigzag(x: tf.Tensor3D, ranks: Communicator): tf.Tensor3D {
  const [batch, time, width] = x.shape;
  if (divisionOf(time, ranks, 'zigzag') === 'slice') return x;
  const all = gatherSlices(tf.reshape<tf.Rank.R4>(x, [batch, time, 1, width]), ranks);
  const parts = ownStretches(time, ranks, 'zigzag').map(({ from, count }) => sliceAxis(all, 1, from, count));
  return tf.reshape(tf.concat(parts, 1), [batch, time, width]);
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
