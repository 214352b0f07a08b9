/** Gated retention and its gradient; `ops/gated-retention`. The graphs are in `retention-graph.ts`. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { OnnxTensor } from '../runtime.js';
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend, Floats } from '../backend.js';
import { forwardGraph, gradientGraph, stateGraph } from './retention-graph.js';

/** Positions per chunk: pairs of positions cost C per position, states Dk * Dv / C. */
const CHUNK = 64;
/** Positions per run: what they need in between should stay in the cache. */
const POSITIONS_AT_ONCE = 1024;

/** A part of the work: the same `count * size` positions from `start` on of `sequences` sequences from `first` on. */
interface Segment {
  readonly first: number;
  readonly sequences: number;
  readonly start: number;
  /** Number of chunks and positions per chunk. */
  readonly count: number;
  readonly size: number;
}

/** Segments in the order of time. Several sequences go together only where they are whole and so lie side by side. */
function segmentsOf(batch: number, time: number): Segment[] {
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

type Feeds = Record<string, OnnxTensor>;

interface Sizes {
  readonly batch: number;
  readonly time: number;
  readonly heads: number;
  /** Heads of queries and keys. */
  readonly groups: number;
  readonly key: number;
  readonly value: number;
}

function sizesOf(q: TensorInfo, v: TensorInfo): Sizes {
  const [batch, time, groups, key] = q.shape as [number, number, number, number];
  const [, , heads, value] = v.shape as [number, number, number, number];
  return { batch, time, heads, groups, key, value };
}

/** Names a graph: what it is built for. */
const graphKey = (name: string, { heads, groups, key, value }: Sizes): string =>
  `${name}/${key}/${value}${heads === groups ? '' : `/${heads}/${groups}`}`;

/** Access to the parts of tensors that a segment stands for. */
class Views {
  constructor(
    private readonly backend: CpuBackend,
    private readonly sizes: Sizes,
  ) {}

  /** Positions of [B, T, H, width]. */
  rows(tensor: TensorInfo, { first, sequences, start, count, size }: Segment): OnnxTensor {
    const { time } = this.sizes;
    // The decays, [B, T, H], have no width.
    const [, , heads, width] = tensor.shape as [number, number, number, number?];
    const row = heads * (width ?? 1);
    const from = (first * time + start) * row;
    const values = this.backend.floats(tensor).subarray(from, from + sequences * count * size * row);
    const dims = [sequences, count, size, heads];
    return this.backend.runtime.wrap(values, width === undefined ? dims : [...dims, width]);
  }

  /** The states of a segment's sequences, [B, H, 1, Dk, Dv]. */
  state(tensor: TensorInfo, segment: Segment): OnnxTensor {
    const { key, value } = this.sizes;
    return this.states(tensor, segment, [key, value]);
  }

  /** The same, as graphs return it: [B, H, 1, Dk * Dv]. */
  newState(tensor: TensorInfo, segment: Segment): OnnxTensor {
    const { key, value } = this.sizes;
    return this.states(tensor, segment, [key * value]);
  }

  stateFeeds(tensor: TensorInfo, segment: Segment): Feeds {
    return { state: this.state(tensor, segment), between: future(this.backend, segment.count + 1) };
  }

  private states(tensor: TensorInfo, { first, sequences }: Segment, matrix: number[]): OnnxTensor {
    const { heads, key, value } = this.sizes;
    const size = heads * key * value;
    const values = this.backend.floats(tensor).subarray(first * size, (first + sequences) * size);
    return this.backend.runtime.wrap(values, [sequences, heads, 1, ...matrix]);
  }
}

/** Matrices that hide the future, kept by size. */
const futures = new Map<number, Float32Array>();

function future(backend: CpuBackend, size: number): OnnxTensor {
  const known =
    futures.get(size) ??
    Float32Array.from({ length: size * size }, (_, i) => (i % size > Math.floor(i / size) ? -Infinity : 0));
  futures.set(size, known);
  return backend.runtime.wrap(known, [size, size]);
}

/** A new tensor with the values of a state, or zeros. */
function copyState(backend: CpuBackend, state: TensorInfo | undefined, { batch, heads, key, value }: Sizes) {
  const copy = backend.output([batch, heads, key, value]);
  if (state) backend.floats(copy).set(backend.floats(state));
  else backend.floats(copy).fill(0);
  return copy;
}

export const gatedRetention: FusedKernel<'GatedRetention', CpuBackend> = (inputs, _, backend) => {
  const { q, k, v, logDecay } = inputs;
  const sizes = sizesOf(q, v);
  const output = backend.output(v.shape);
  const state = copyState(backend, inputs.state, sizes);
  if (sizes.time === 1) {
    step(backend, inputs, state, output);
    return [output, state];
  }
  const views = new Views(backend, sizes);
  for (const segment of segmentsOf(sizes.batch, sizes.time)) {
    const feeds: Feeds = {
      q: views.rows(q, segment),
      k: views.rows(k, segment),
      v: views.rows(v, segment),
      logDecay: views.rows(logDecay, segment),
      ...views.stateFeeds(state, segment),
      within: future(backend, segment.size),
    };
    // The old state is read before the new one is written in its place.
    const fetches = { output: views.rows(output, segment), finalState: views.newState(state, segment) };
    backend.run(graphKey('GatedRetention', sizes), () => forwardGraph(sizes), feeds, fetches);
  }
  return [output, state];
};

/** One position, by the recurrence itself. */
function step(
  backend: CpuBackend,
  { q, k, v, logDecay }: Record<'q' | 'k' | 'v' | 'logDecay', TensorInfo>,
  state: TensorInfo,
  output: TensorInfo,
): void {
  const { batch, heads, groups, key, value } = sizesOf(q, v);
  const [queries, keys, values] = [backend.floats(q), backend.floats(k), backend.floats(v)];
  const [gates, s, out] = [backend.floats(logDecay), backend.floats(state), backend.floats(output)];
  const scale = key ** -0.5;
  out.fill(0);
  for (let head = 0; head < batch * heads; head++) {
    const decay = Math.exp(gates[head] as number);
    const shared = Math.floor(head / (heads / groups)) * key;
    for (let i = 0; i < key; i++) {
      const query = queries[shared + i] as number;
      const factor = (keys[shared + i] as number) * scale;
      const row = (head * key + i) * value;
      for (let j = 0; j < value; j++) {
        const at = head * value + j;
        const next = (s[row + j] as number) * decay + factor * (values[at] as number);
        s[row + j] = next;
        out[at] = (out[at] as number) + query * next;
      }
    }
  }
}

export const gatedRetentionGrad: FusedKernel<'GatedRetentionGrad', CpuBackend> = (inputs, _, backend) => {
  const { q, k, v, logDecay, dOutput, dFinalState } = inputs;
  const sizes = sizesOf(q, v);
  const views = new Views(backend, sizes);
  const { batch, time, heads, key } = sizes;
  const [dq, dk] = [backend.output([batch, time, heads, key]), backend.output([batch, time, heads, key])];
  const dv = backend.output(v.shape);
  const dState = copyState(backend, dFinalState, sizes);
  const balance = backend.output(logDecay.shape);
  const segments = segmentsOf(sizes.batch, sizes.time);
  const starts = statesBefore(backend, views, inputs, segments, sizes);
  // Backward in time: dState is read as the gradient of the state after a segment, written as that before it.
  for (const [i, segment] of [...segments.entries()].reverse()) {
    const feeds: Feeds = {
      q: views.rows(q, segment),
      k: views.rows(k, segment),
      v: views.rows(v, segment),
      dOutput: views.rows(dOutput, segment),
      logDecay: views.rows(logDecay, segment),
      ...views.stateFeeds(starts[i] as TensorInfo, segment),
      dFinalState: views.state(dState, segment),
      within: future(backend, segment.size),
    };
    const fetches = {
      dq: views.rows(dq, segment),
      dk: views.rows(dk, segment),
      dv: views.rows(dv, segment),
      dState: views.newState(dState, segment),
      balance: views.rows(balance, segment),
    };
    backend.run(graphKey('GatedRetentionGrad', sizes), () => gradientGraph(sizes), feeds, fetches);
  }
  for (const start of starts) backend.disposeIntermediateTensorInfo(start);
  sumOverLater(
    backend.floats(balance),
    backend.floats(dFinalState),
    backend.floats(inputs.finalState),
    sizes,
  );
  return [dq, dk, dv, balance, dState];
};

/** For every segment a tensor with the states before it. */
function statesBefore(
  backend: CpuBackend,
  views: Views,
  inputs: Record<'k' | 'v' | 'logDecay', TensorInfo> & { readonly state?: TensorInfo },
  segments: readonly Segment[],
  sizes: Sizes,
): TensorInfo[] {
  const current = copyState(backend, inputs.state, sizes);
  const starts = segments.map((segment, i) => {
    const start = copyState(backend, current, sizes);
    if (segments[i + 1]?.first !== segment.first) return start;
    const feeds: Feeds = {
      k: views.rows(inputs.k, segment),
      v: views.rows(inputs.v, segment),
      logDecay: views.rows(inputs.logDecay, segment),
      ...views.stateFeeds(current, segment),
    };
    const fetches = { finalState: views.newState(current, segment) };
    backend.run(graphKey('RetentionState', sizes), () => stateGraph(sizes), feeds, fetches);
    return start;
  });
  backend.disposeIntermediateTensorInfo(current);
  return starts;
}

/**
 * dLogDecay in place of the balance q · dq - k · dk: its sum over the position and all later ones, plus what the final state
 * owes to the decay, <dS_T, S_T>. In float64, since the terms cancel.
 */
function sumOverLater(balance: Floats, dFinalState: Floats, finalState: Floats, sizes: Sizes): void {
  const { batch, time, heads, key, value } = sizes;
  for (let b = 0; b < batch; b++)
    for (let h = 0; h < heads; h++) {
      const state = (b * heads + h) * key * value;
      let sum = 0;
      for (let i = state; i < state + key * value; i++)
        sum += (dFinalState[i] as number) * (finalState[i] as number);
      for (let t = time - 1; t >= 0; t--) {
        const at = (b * time + t) * heads + h;
        sum += balance[at] as number;
        balance[at] = sum;
      }
    }
}
