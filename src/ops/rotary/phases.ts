/**
 * Angles of the rotary embedding. Everything is float64 until the cosine and sine are rounded: a float32 phase is off by up
 * to 0.1 rad at position one million.
 */
import type { RotaryAttributes } from '../kernels.js';

/** Cosines and sines of the phases, [rows, D/2] row-major. */
export interface RotaryTable {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

type PhaseSource = Pick<RotaryAttributes, 'start' | 'positions' | 'frequencies'>;

/** All layers of a forward pass rotate by the same few tables: keep the last ones. */
const recent: { source: PhaseSource; rows: number; table: RotaryTable }[] = [];
const RECENT_TABLES = 4;

/**
 * The table for `rows` rows: T of them, or B * T where `source.positions` gives every row its own position. Not to be
 * changed: it is shared with later calls.
 */
export function rotaryTable(source: PhaseSource, rows: number): RotaryTable {
  const { start, positions, frequencies } = source;
  const known = recent.find(
    (entry) =>
      entry.rows === rows &&
      entry.source.start === start &&
      entry.source.positions === positions &&
      entry.source.frequencies === frequencies,
  );
  if (known) return known.table;
  const table = positions ? tableOf(positions, frequencies) : consecutiveTable(start, rows, frequencies);
  recent.unshift({ source: { start, positions, frequencies }, rows, table });
  recent.length = Math.min(recent.length, RECENT_TABLES);
  return table;
}

function emptyTable(rows: number, pairs: number): RotaryTable {
  return { cos: new Float32Array(rows * pairs), sin: new Float32Array(rows * pairs) };
}

function tableOf(positions: Int32Array, frequencies: Float64Array): RotaryTable {
  const table = emptyTable(positions.length, frequencies.length);
  let i = 0;
  for (const position of positions) {
    for (const frequency of frequencies) {
      table.cos[i] = Math.cos(position * frequency);
      table.sin[i] = Math.sin(position * frequency);
      i += 1;
    }
  }
  return table;
}

/** Rows between two calls of Math.cos: the others follow by rotation, whose error stays below 1e-14. */
const EXACT_EVERY = 32;

function consecutiveTable(start: number, rows: number, frequencies: Float64Array): RotaryTable {
  const pairs = frequencies.length;
  const table = emptyTable(rows, pairs);
  const cos = new Float64Array(pairs);
  const sin = new Float64Array(pairs);
  const stepCos = frequencies.map(Math.cos);
  const stepSin = frequencies.map(Math.sin);
  for (let row = 0; row < rows; row++) {
    const exact = row % EXACT_EVERY === 0;
    for (let i = 0; i < pairs; i++) {
      const c = cos[i] as number;
      const s = sin[i] as number;
      const phase = exact ? (start + row) * (frequencies[i] as number) : 0;
      cos[i] = exact ? Math.cos(phase) : c * (stepCos[i] as number) - s * (stepSin[i] as number);
      sin[i] = exact ? Math.sin(phase) : s * (stepCos[i] as number) + c * (stepSin[i] as number);
    }
    table.cos.set(cos, row * pairs);
    table.sin.set(sin, row * pairs);
  }
  return table;
}
