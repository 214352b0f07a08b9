/**
 * What kernels share that go through a sequence in chunks and carry a state, [B, H, Dk, Dv], from one to the next: gated retention and
 * the gated delta rule. A run of a graph takes a segment, some chunks of some sequences; segments follow each other in time.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CpuBackend } from '../backend.js';
import type { Graph } from '../onnx.js';
import type { OnnxTensor } from '../runtime.js';

/** Positions per chunk: pairs of positions cost C per position, states Dk * Dv / C. */
export const CHUNK = 64;
/** Positions per run: what they need in between should stay in the cache. */
const POSITIONS_AT_ONCE = 1024;

/** A part of the work: the same `count * size` positions from `start` on of `sequences` sequences from `first` on. */
export interface Segment {
  readonly first: number;
  readonly sequences: number;
  readonly start: number;
  /** Number of chunks and positions per chunk. */
  readonly count: number;
  readonly size: number;
}

/** Segments in the order of time. Several sequences go together only where they are whole and so lie side by side. */
function segmentsOf({ batch, time }: Sizes): Segment[] {
  const whole = Math.floor(time / CHUNK);
  const rest = time % CHUNK;
  const together = rest === 0 ? Math.max(1, Math.floor(POSITIONS_AT_ONCE / time)) : 1;
  const chunksAtOnce = POSITIONS_AT_ONCE / CHUNK;
  const segments: Segment[] = [];
  for (let first = 0; first < batch; first += together) {
    const sequences = Math.min(together, batch - first);
    for (let chunk = 0; chunk < whole; chunk += chunksAtOnce) {
      const count = Math.min(chunksAtOnce, whole - chunk);
      segments.push({ first, sequences, start: chunk * CHUNK, count, size: CHUNK });
    }
    if (rest > 0) segments.push({ first, sequences, start: whole * CHUNK, count: 1, size: rest });
  }
  return segments;
}

export interface Sizes {
  readonly batch: number;
  readonly time: number;
  readonly heads: number;
  /** Heads of queries and keys. */
  readonly groups: number;
  readonly key: number;
  readonly value: number;
}

export function sizesOf(q: TensorInfo, v: TensorInfo): Sizes {
  const [batch, time, groups, key] = q.shape as [number, number, number, number];
  const [, , heads, value] = v.shape as [number, number, number, number];
  return { batch, time, heads, groups, key, value };
}

export type Feeds = Record<string, OnnxTensor>;

/** Tensors by the names of a graph's inputs or outputs. */
type Named = Readonly<Record<string, TensorInfo>>;

/**
 * Graphs of an op. All may take rows [B, N, C, H, width] or [B, N, C, H] of the operands by name, `state` and constants. Outputs of
 * `forward`: `output` and `finalState`; of `state`: only `finalState`; of `gradient`, which also takes dOutput and dFinalState:
 * the gradients and `dState`.
 */
export interface Graphs {
  /** Tells them from others of the same kind. */
  readonly name: string;
  readonly forward: () => Graph;
  readonly state: () => Graph;
  readonly gradient: () => Graph;
}

/** An op whose runs take segments. */
export interface Recurrence {
  graphs(segment: Segment): Graphs;
  constants(segment: Segment): Feeds;
  /** A state's dimensions after B and H, as graphs take it and as they return it. */
  readonly taken: readonly number[];
  readonly returned: readonly number[];
}

/** Runs the graphs of an op over all segments. */
export class Segments {
  private readonly segments: readonly Segment[];

  constructor(
    private readonly backend: CpuBackend,
    private readonly sizes: Sizes,
    private readonly op: Recurrence,
  ) {
    this.segments = segmentsOf(sizes);
  }

  /** Writes `output`, and the last state in place of the first in `state`. */
  forward(operands: Named, state: TensorInfo, output: TensorInfo): void {
    for (const segment of this.segments) {
      // The old state is read before the new one is written in its place.
      const fetches = { output: this.rows(output, segment), finalState: this.newState(state, segment) };
      this.run('forward', segment, operands, { state: this.state(state, segment) }, fetches);
    }
  }

  /**
   * Backward in time: writes `gradients`, named as the outputs of the graph, and the gradient of the first state in place of that of
   * the last in `dState`.
   * @param operands also dOutput
   * @param state absent: zeros
   */
  gradient(operands: Named, state: TensorInfo | undefined, dState: TensorInfo, gradients: Named): void {
    const starts = this.statesBefore(operands, state);
    for (const [i, segment] of [...this.segments.entries()].reverse()) {
      const states = {
        state: this.state(starts[i] as TensorInfo, segment),
        dFinalState: this.state(dState, segment),
      };
      const fetches = { ...this.allRows(gradients, segment), dState: this.newState(dState, segment) };
      this.run('gradient', segment, operands, states, fetches);
    }
    for (const start of starts) this.backend.disposeIntermediateTensorInfo(start);
  }

  /** For every segment a tensor with the states before it. */
  private statesBefore(operands: Named, state: TensorInfo | undefined): TensorInfo[] {
    const { backend, sizes, segments } = this;
    const current = copyState(backend, state, sizes);
    const starts = segments.map((segment, i) => {
      const start = copyState(backend, current, sizes);
      if (segments[i + 1]?.first !== segment.first) return start;
      const fetches = { finalState: this.newState(current, segment) };
      this.run('state', segment, operands, { state: this.state(current, segment) }, fetches);
      return start;
    });
    backend.disposeIntermediateTensorInfo(current);
    return starts;
  }

  private run(
    kind: 'forward' | 'state' | 'gradient',
    segment: Segment,
    operands: Named,
    states: Feeds,
    fetches: Feeds,
  ): void {
    const graphs = this.op.graphs(segment);
    const feeds = { ...this.allRows(operands, segment), ...this.op.constants(segment), ...states };
    this.backend.run(`${graphs.name}/${kind}`, graphs[kind], feeds, fetches);
  }

  private allRows(tensors: Named, segment: Segment): Feeds {
    return Object.fromEntries(
      Object.entries(tensors).map(([name, tensor]) => [name, this.rows(tensor, segment)]),
    );
  }

  /** Positions of [B, T, H, width] or [B, T, H]. */
  private rows(tensor: TensorInfo, { first, sequences, start, count, size }: Segment): OnnxTensor {
    const { time } = this.sizes;
    const [, , heads, width] = tensor.shape as [number, number, number, number?];
    const row = heads * (width ?? 1);
    const dims = [sequences, count, size, heads, ...(width === undefined ? [] : [width])];
    return this.backend.part(tensor, dims, (first * time + start) * row);
  }

  private state(tensor: TensorInfo, segment: Segment): OnnxTensor {
    return this.states(tensor, segment, this.op.taken);
  }

  private newState(tensor: TensorInfo, segment: Segment): OnnxTensor {
    return this.states(tensor, segment, this.op.returned);
  }

  /** The states of a segment's sequences. */
  private states(tensor: TensorInfo, { first, sequences }: Segment, dims: readonly number[]): OnnxTensor {
    const { heads, key, value } = this.sizes;
    return this.backend.part(tensor, [sequences, heads, ...dims], first * heads * key * value);
  }
}

/** A new tensor with the values of a state, or zeros. */
export function copyState(
  backend: CpuBackend,
  state: TensorInfo | undefined,
  { batch, heads, key, value }: Sizes,
): TensorInfo {
  const copy = backend.output([batch, heads, key, value]);
  if (state) backend.floats(copy).set(backend.floats(state));
  else backend.floats(copy).fill(0);
  return copy;
}

/** Square matrices kept by what they are and their size. */
const matrices = new Map<string, Float32Array>();

function matrix(name: string, size: number, value: (row: number, column: number) => number): Float32Array {
  const key = `${name}/${size}`;
  const known =
    matrices.get(key) ??
    Float32Array.from({ length: size * size }, (_, i) => value(Math.floor(i / size), i % size));
  matrices.set(key, known);
  return known;
}

/** Hides the future: 0 where the row is not before the column, else -Infinity. */
export function future(backend: CpuBackend, size: number): OnnxTensor {
  const hidden = matrix('future', size, (row, column) => (column > row ? -Infinity : 0));
  return backend.runtime.wrap(hidden, [size, size]);
}

/** Ones below the diagonal. */
export function past(backend: CpuBackend, size: number): OnnxTensor {
  return backend.runtime.wrap(
    matrix('past', size, (row, column) => (column < row ? 1 : 0)),
    [size, size],
  );
}

/**
 * dLogDecay in place of `balance`, the gradient of the cumulative sum of the decays at every position: its sum over the position and all
 * later ones, plus what the final state owes to the decay, <dS_T, S_T>. In float64, since the terms cancel.
 */
export function sumOverLater(
  backend: CpuBackend,
  balance: TensorInfo,
  { dFinalState, finalState }: Readonly<Record<'dFinalState' | 'finalState', TensorInfo>>,
): void {
  const [batch, time, heads] = balance.shape as [number, number, number];
  const [sums, dState, last] = [balance, dFinalState, finalState].map((tensor) => backend.floats(tensor)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const size = last.length / (batch * heads);
  for (let b = 0; b < batch; b++)
    for (let h = 0; h < heads; h++) {
      const state = (b * heads + h) * size;
      let sum = 0;
      for (let i = state; i < state + size; i++) sum += (dState[i] as number) * (last[i] as number);
      for (let t = time - 1; t >= 0; t--) {
        const at = (b * time + t) * heads + h;
        sum += sums[at] as number;
        sums[at] = sum;
      }
    }
}
