/**
 * Chunkwise gated retention as graphs (formulas in `ops/gated-retention`). A run takes sequences of N chunks of C
 * positions; all chunks are computed at once, and the recurrence between them is one product with a triangular matrix
 * of decays, so that no loop is needed.
 *
 * Inside, matrices are [B, H, N, C, width], states [B, H, N, Dk * Dv]. The inputs `within` [C, C] and `between`
 * [N + 1, N + 1] hide the future: 0 where the row is not before the column, else -Infinity.
 */
import { LEAST_LOG_DECAY } from '../../../ops/gated-retention/chunks.js';
import { graph, type GraphBuilder } from '../graph.js';
import type { Graph } from '../onnx.js';

const TO_CHUNKS = [0, 3, 1, 2, 4];
const FROM_CHUNKS = [0, 2, 3, 1, 4];

/** [B, N, C, H, width] as [B, H, N, C, width]. */
function toChunks(g: GraphBuilder, name: string): string {
  return g.op('Transpose', [g.input(name, 5)], { perm: TO_CHUNKS });
}

function fromChunks(g: GraphBuilder, x: string): string {
  return g.op('Transpose', [x], { perm: FROM_CHUNKS });
}

interface Decays {
  /** exp of the decay between two positions of a chunk, [B, H, N, C, C]. */
  readonly pairs: string;
  /** Decay from the start of the chunk to a position, and from a position to the end, [B, H, N, C, 1]. */
  readonly fromStart: string;
  readonly toEnd: string;
  /** Decay between the states after 0 to N chunks, [B, H, N + 1, N + 1]: row after column. */
  readonly states: string;
}

/** @param pairs whether `pairs` and `fromStart` are computed: their inputs exist only then */
function decays(g: GraphBuilder, pairs = true): Decays {
  const axis = (value: number) => g.integers(value);
  const gates = g.op('Transpose', [g.op('Max', [g.input('logDecay', 4), g.scalar(LEAST_LOG_DECAY)])], {
    perm: [0, 3, 1, 2],
  });
  const sums = g.op('CumSum', [gates, axis(3)]);
  const total = g.op('ReduceSum', [gates, axis(3)], { keepdims: 1 });
  const column = g.op('Unsqueeze', [sums, axis(4)]);
  const spans = () => g.op('Sub', [column, g.op('Unsqueeze', [sums, axis(3)])]);
  const ends = g.op('CumSum', [g.op('Squeeze', [total, axis(3)]), axis(2)]);
  // Nothing has decayed before the first chunk.
  const boundaries = g.op('Pad', [ends, g.integers(0, 0, 1, 0, 0, 0)]);
  const steps = g.op('Sub', [
    g.op('Unsqueeze', [boundaries, axis(3)]),
    g.op('Unsqueeze', [boundaries, axis(2)]),
  ]);
  return {
    pairs: pairs ? g.op('Exp', [g.op('Add', [spans(), g.input('within', 2)])]) : '',
    fromStart: pairs ? g.op('Exp', [column]) : '',
    toEnd: g.op('Unsqueeze', [g.op('Exp', [g.op('Sub', [total, sums])]), axis(4)]),
    states: g.op('Exp', [g.op('Add', [steps, g.input('between', 2)])]),
  };
}

/** The states before each chunk, [B, H, N, Dk, Dv], and after the last, [B, H, 1, Dk * Dv]. */
interface States {
  readonly before: () => string;
  readonly last: () => string;
  /** Keys as they reach the end of their chunk. */
  readonly fadedKeys: string;
}

interface Widths {
  readonly key: number;
  readonly value: number;
  readonly heads: number;
  /** Heads of queries and keys. */
  readonly groups: number;
}

/** Queries or keys [B, N, C, G, Dk] as [B, H, N, C, Dk]. */
function sharedToChunks(g: GraphBuilder, name: string, { key, heads, groups }: Widths): string {
  if (heads === groups) return toChunks(g, name);
  const own = g.op('Unsqueeze', [g.input(name, 5), g.integers(4)]);
  const copies = g.op('Expand', [own, g.integers(1, 1, 1, 1, heads / groups, 1)]);
  const all = g.op('Reshape', [copies, g.integers(0, 0, 0, heads, key)]);
  return g.op('Transpose', [all], { perm: TO_CHUNKS });
}

/** A part of one axis. */
function part(g: GraphBuilder, x: string, axis: number, from: number, to: number): string {
  return g.op('Slice', [x, g.integers(from), g.integers(to), g.integers(axis)]);
}

const END = 2 ** 31;

function states(g: GraphBuilder, keys: string, values: string, decay: Decays, widths: Widths): States {
  const fadedKeys = g.op('Mul', [keys, decay.toEnd]);
  const updates = g.product(fadedKeys, values, { transA: 1, alpha: widths.key ** -0.5 });
  const all = g.op('Concat', [g.input('state', 5), updates], { axis: 2 });
  const flat = g.op('Reshape', [all, g.integers(0, 0, 0, -1)]);
  return {
    fadedKeys,
    before: () => asMatrices(g, g.product(part(g, decay.states, 2, 0, -1), flat), widths),
    last: () => g.product(part(g, decay.states, 2, -1, END), flat),
  };
}

function asMatrices(g: GraphBuilder, flat: string, { key, value }: Widths): string {
  return g.op('Reshape', [flat, g.integers(0, 0, 0, key, value)]);
}

/** Inputs q, k [B, N, C, G, Dk], v [B, N, C, H, Dv], logDecay, state [B, H, 1, Dk, Dv]; outputs `output` like v, `finalState`. */
export function forwardGraph(widths: Widths): Graph {
  return graph((g) => {
    const [q, k] = [sharedToChunks(g, 'q', widths), sharedToChunks(g, 'k', widths)];
    const v = toChunks(g, 'v');
    const decay = decays(g);
    const scores = g.product(q, k, { transB: 1, alpha: widths.key ** -0.5 });
    const inside = g.product(g.op('Mul', [scores, decay.pairs]), v);
    const state = states(g, k, v, decay, widths);
    const carried = g.product(g.op('Mul', [q, decay.fromStart]), state.before());
    g.output('output', 5, fromChunks(g, g.op('Add', [inside, carried])));
    g.output('finalState', 4, state.last());
  });
}

/** Only the state after the last chunk. */
export function stateGraph(widths: Widths): Graph {
  return graph((g) => {
    const [k, v] = [sharedToChunks(g, 'k', widths), toChunks(g, 'v')];
    g.output('finalState', 4, states(g, k, v, decays(g, false), widths).last());
  });
}

/**
 * Beside the inputs of the forward pass dOutput [B, N, C, H, Dv] and dFinalState [B, H, 1, Dk, Dv]. Outputs dq, dk [B, N, C, H, Dk], dv;
 * dState [B, H, 1, Dk * Dv]; and `balance` [B, N, C, H], q · dq - k · dk at every position.
 */
export function gradientGraph(widths: Widths): Graph {
  const alpha = widths.key ** -0.5;
  return graph((g) => {
    const [q, k] = [sharedToChunks(g, 'q', widths), sharedToChunks(g, 'k', widths)];
    const [v, dOutput] = [toChunks(g, 'v'), toChunks(g, 'dOutput')];
    const decay = decays(g);
    const state = states(g, k, v, decay, widths);
    const before = state.before();
    const weights = g.op('Mul', [g.product(q, k, { transB: 1, alpha }), decay.pairs]);
    const dScores = g.op('Mul', [g.product(dOutput, v, { transB: 1 }), decay.pairs]);

    // What the states owe to the outputs of the chunks after them, and to the final state.
    const dBefore = g.product(g.op('Mul', [q, decay.fromStart]), dOutput, { transA: 1 });
    const dStates = g.op('Concat', [dBefore, g.input('dFinalState', 5)], { axis: 2 });
    const flat = g.op('Reshape', [dStates, g.integers(0, 0, 0, -1)]);
    g.output('dState', 4, g.product(part(g, decay.states, 3, 0, 1), flat, { transA: 1 }));
    const dUpdates = asMatrices(g, g.product(part(g, decay.states, 3, 1, END), flat, { transA: 1 }), widths);

    const dqCarried = g.op('Mul', [g.product(dOutput, before, { transB: 1 }), decay.fromStart]);
    const dq = g.op('Add', [g.product(dScores, k, { alpha }), dqCarried]);
    const dkCarried = g.op('Mul', [g.product(v, dUpdates, { transB: 1, alpha }), decay.toEnd]);
    const dk = g.op('Add', [g.product(dScores, q, { transA: 1, alpha }), dkCarried]);
    const dvCarried = g.product(state.fadedKeys, dUpdates, { alpha });
    const dv = g.op('Add', [g.product(weights, dOutput, { transA: 1 }), dvCarried]);

    const products = g.op('Sub', [g.op('Mul', [q, dq]), g.op('Mul', [k, dk])]);
    const balance = g.op('ReduceSum', [products, g.integers(4)], { keepdims: 0 });
    g.output('balance', 4, g.op('Transpose', [balance], { perm: [0, 2, 3, 1] }));
    g.output('dq', 5, fromChunks(g, dq));
    g.output('dk', 5, fromChunks(g, dk));
    g.output('dv', 5, fromChunks(g, dv));
  });
}
