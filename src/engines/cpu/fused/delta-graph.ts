/**
 * The chunkwise gated delta rule as graphs (formulas and letters in `ops/gated-delta-rule`). A run takes sequences of N chunks of C
 * positions. What does not depend on the state is computed for all chunks at once; a loop over the chunks carries the state.
 *
 * Inside, matrices are [N, B, H, C, width], states [B, H, Dk, Dv]. The input `within` [C, C] hides the future: 0 where the row is
 * not before the column, else -Infinity.
 */
import { LEAST_LOG_DECAY } from '../../../ops/gated-retention/chunks.js';
import type { DeltaAttributes } from '../../../ops/kernels.js';
import { graph, type GraphBuilder } from '../graph.js';
import type { Graph } from '../onnx.js';
import { inverse } from './unit-triangular.js';

/** Between [B, N, C, H, width] and [N, B, H, C, width]. */
const TO_CHUNKS = [1, 0, 3, 2, 4];
const FROM_CHUNKS = [1, 0, 3, 2, 4];

function toChunks(g: GraphBuilder, name: string): string {
  return g.op('Transpose', [g.input(name, 5)], { perm: TO_CHUNKS });
}

/** [B, N, C, H] as [N, B, H, C, 1]. */
function columnToChunks(g: GraphBuilder, name: string): string {
  return g.op('Unsqueeze', [g.op('Transpose', [g.input(name, 4)], { perm: [1, 0, 3, 2] }), g.integers(4)]);
}

export interface DeltaGraph extends DeltaAttributes {
  /** Whether chunks have the full number of positions; others, of one number, are padded where they must be. */
  readonly isWhole: boolean;
}

/** What the chunks are made of. */
interface Chunks {
  readonly keys: string;
  readonly values: string;
  readonly betas: string;
  /** exp(G_i - G_j) for i >= j, else 0: [N, B, H, C, C]. */
  readonly pairs: string;
  /** exp(G) and exp(G_C - G), [N, B, H, C, 1]. */
  readonly fromStart: string;
  readonly toEnd: string;
  /** exp(G_C), [N, B, H, 1, 1]. */
  readonly across: string;
  /** (k_i · k_j) exp(G_i - G_j), of use below the diagonal. */
  readonly overlaps: string;
  /** T = (I + A)⁻¹ */
  readonly inverse: string;
  /** exp(G) K and exp(G_C - G) K. */
  readonly early: string;
  readonly late: string;
}

function scaled(g: GraphBuilder, x: string, factor: number): string {
  return factor === 1 ? x : g.op('Mul', [x, g.scalar(factor)]);
}

function cut(g: GraphBuilder, { keyScale, isWhole }: DeltaGraph): Chunks {
  const [keys, values, betas] = [toChunks(g, 'k'), toChunks(g, 'v'), columnToChunks(g, 'beta')];
  const gates = g.op('Max', [columnToChunks(g, 'logDecay'), g.scalar(LEAST_LOG_DECAY)]);
  const sums = g.op('CumSum', [gates, g.integers(3)]);
  const total = g.op('ReduceSum', [gates, g.integers(3)], { keepdims: 1 });
  const row = g.op('Transpose', [sums], { perm: [0, 1, 2, 4, 3] });
  const pairs = g.op('Exp', [g.op('Add', [g.op('Sub', [sums, row]), g.input('within', 2)])]);
  const fromStart = g.op('Exp', [sums]);
  const toEnd = g.op('Exp', [g.op('Sub', [total, sums])]);
  const overlaps = g.op('Mul', [g.product(keys, keys, { transB: 1, alpha: keyScale ** 2 }), pairs]);
  return {
    keys, values, betas, pairs, fromStart, toEnd, overlaps,
    across: g.op('Exp', [total]),
    inverse: inverse(g, g.op('Mul', [overlaps, betas]), isWhole),
    early: g.op('Mul', [keys, scaled(g, fromStart, keyScale)]),
    late: g.op('Mul', [keys, scaled(g, toEnd, keyScale)]),
  }; // prettier-ignore
}

interface Carried {
  /** The state before each turn and what it adds to the next, along the chunks. */
  readonly before: string;
  readonly updates: string;
  readonly last: string;
}

/**
 * From chunk to chunk: X = given + read S and S' = across S + base + writeᵀ X. The rule itself has X = N, and its gradient, from
 * the last chunk to the first, X = dR.
 */
function sweep(
  g: GraphBuilder,
  state: string,
  [across, given, read, write, base]: readonly [string, string, string, string, string?],
  reverse: boolean,
): Carried {
  const inputs = [across, given, read, write, ...(base === undefined ? [] : [base])];
  const carried = g.scan(
    4,
    [state],
    inputs,
    (body, [before = ''], [across = '', given = '', read = '', write = '', base]) => {
      const update = body.op('Add', [given, body.product(read, before)]);
      const kept = body.op('Mul', [before, across]);
      const rest = base === undefined ? kept : body.op('Add', [kept, base]);
      const after = body.op('Add', [rest, body.product(write, update, { transA: 1 })]);
      return { states: [after], outputs: [body.op('Identity', [before]), update] };
    },
    { reverse },
  );
  const [[last = ''], [before = '', updates = '']] = [carried.states, carried.outputs];
  return { before, updates, last };
}

/** The states before every chunk, N, and the last state. */
function advance(g: GraphBuilder, chunks: Chunks): Carried {
  const { values, betas, inverse, early, late, across } = chunks;
  const targets = g.product(inverse, g.op('Mul', [values, betas]));
  const readers = g.product(inverse, g.op('Mul', [early, betas]), { alpha: -1 });
  return sweep(g, g.input('state', 4), [across, targets, readers, late], false);
}

/** Inputs q, k [B, N, C, H, Dk], v [B, N, C, H, Dv], logDecay and beta [B, N, C, H], state; outputs `output` like v, `finalState`. */
export function forwardGraph(options: DeltaGraph): Graph {
  const { queryScale, keyScale } = options;
  return graph((g) => {
    const q = toChunks(g, 'q');
    const chunks = cut(g, options);
    const { before, updates, last } = advance(g, chunks);
    const scores = g.product(q, chunks.keys, { transB: 1, alpha: queryScale * keyScale });
    const inside = g.product(g.op('Mul', [scores, chunks.pairs]), updates);
    const carried = g.product(g.op('Mul', [q, scaled(g, chunks.fromStart, queryScale)]), before);
    g.output('output', 5, g.op('Transpose', [g.op('Add', [inside, carried])], { perm: FROM_CHUNKS }));
    g.output('finalState', 4, last);
  });
}

/** Only the state after the last chunk. */
export function stateGraph(options: DeltaGraph): Graph {
  return graph((g) => {
    g.output('finalState', 4, advance(g, cut(g, options)).last);
  });
}

/**
 * Beside the inputs of the forward pass dOutput [B, N, C, H, Dv], dFinalState [B, H, Dk, Dv] and `below` [C, C], ones below the
 * diagonal. Outputs dq, dk [B, N, C, H, Dk], dv; dBeta [B, N, C, H]; dState; and `balance` [B, N, C, H], q · dq - v · dv.
 */
export function gradientGraph(options: DeltaGraph): Graph {
  const { queryScale, keyScale } = options;
  const alpha = queryScale * keyScale;
  return graph((g) => {
    const [q, dOutput] = [toChunks(g, 'q'), toChunks(g, 'dOutput')];
    const chunks = cut(g, options);
    const { keys, values, betas, pairs, overlaps, early, late, across } = chunks;
    const { before, updates } = advance(g, chunks);
    const asking = scaled(g, chunks.fromStart, queryScale);

    const weights = g.op('Mul', [g.product(q, keys, { transB: 1, alpha }), pairs]);
    const given = g.product(chunks.inverse, g.product(weights, dOutput, { transA: 1 }), { transA: 1 });
    const read = g.product(chunks.inverse, late, { transA: 1 });
    const write = g.op('Mul', [early, g.op('Neg', [betas])]);
    const asked = g.product(g.op('Mul', [q, asking]), dOutput, { transA: 1 });
    const back = sweep(g, g.input('dFinalState', 4), [across, given, read, write, asked], true);
    const { before: dEnds, updates: dErrors, last: dState } = back;
    const dValues = g.op('Mul', [dErrors, betas]);

    const dSystem = g.op('Mul', [g.product(dErrors, updates, { transB: 1, alpha: -1 }), g.input('below', 2)]);
    const dOverlaps = g.op('Mul', [g.op('Mul', [dSystem, betas]), pairs]);
    const dScores = g.op('Mul', [g.product(dOutput, updates, { transB: 1 }), pairs]);
    const errors = g.op('Sub', [values, g.product(early, before)]);
    const dBetas = g.op('Add', [sumOfRows(g, dErrors, errors), sumOfRows(g, dSystem, overlaps)]);
    const dqCarried = g.op('Mul', [g.product(dOutput, before, { transB: 1 }), asking]);
    const dq = g.op('Add', [g.product(dScores, keys, { alpha }), dqCarried]);
    const dk = g.op('Sum', [
      g.product(dOverlaps, keys, { alpha: keyScale ** 2 }),
      g.product(dOverlaps, keys, { transA: 1, alpha: keyScale ** 2 }),
      g.product(dScores, q, { transA: 1, alpha }),
      g.op('Mul', [g.product(updates, dEnds, { transB: 1, alpha: keyScale }), chunks.toEnd]),
      g.op('Mul', [g.product(dValues, before, { transB: 1, alpha: -keyScale }), chunks.fromStart]),
    ]);

    const balance = g.op('Sub', [sumOfRows(g, q, dq), sumOfRows(g, values, dValues)]);
    const rows = { dq, dk, dv: dValues };
    for (const [name, x] of Object.entries(rows))
      g.output(name, 5, g.op('Transpose', [x], { perm: FROM_CHUNKS }));
    for (const [name, x] of Object.entries({ dBeta: dBetas, balance }))
      g.output(name, 4, g.op('Transpose', [x], { perm: [1, 0, 3, 2] }));
    g.output('dState', 4, dState);
  });
}

/** The sum over the width of a product: [N, B, H, C]. */
function sumOfRows(g: GraphBuilder, x: string, y: string): string {
  return g.op('ReduceSum', [g.op('Mul', [x, y]), g.integers(4)], { keepdims: 0 });
}
