/**
 * The parts of a layout over a residual stream: from tokens to hidden states before the final norm. Three routes lead through
 * them: whole sequences, whose memories are what the pass itself computes; the same with layers recomputed in the backward pass;
 * and tokens that continue what a cache remembers, which leave out what they do not need.
 */
import { embedding } from '../ops/index.js';
import type { Communicator } from '../distributed/communicator.js';
import type * as tf from '../tf.js';
import type { ModelConfig } from './config.js';
import { conventionsOf } from './conventions.js';
import { inZigzag, ownStretches, passRows, type Stretch } from './divided-runs.js';
import type { ExtendOptions, LogitsWanted } from './language-model.js';
import type { Rows } from './layers/heads.js';
import type { Readout } from './layers/readout.js';
import { recomputedLayer } from './layers/recomputed-layer.js';
import type { PackedBatch, PackedRows } from './packed-batch.js';
import { buildParts, type Part, type Parts } from './parts.js';
import { lastRow, lastToken, pickRows } from './rows.js';
import type { KeyValueMemory, Memory, MemoryOptions } from './state/memory.js';
import type { Weights } from './weights.js';

/** What the parts of a pass have in common. */
interface Pass {
  readonly rows: Rows;
  readonly memories: readonly Memory[];
  /** What layers leave to those after them, by part. */
  readonly readouts: readonly Readout[];
  /** Keep only the layers' inputs for the backward pass. */
  readonly recompute: boolean;
  /** The embeddings of the rows. */
  readonly embed: () => tf.Tensor3D;
}

export class Stack {
  private readonly parts: Parts;
  private readonly embeddingScale: number;
  private readonly embedding: tf.Variable;

  /** @param ranks over which sequences are divided */
  constructor(
    config: ModelConfig,
    weights: Weights,
    private readonly ranks: Communicator,
  ) {
    const conventions = conventionsOf(config);
    this.embeddingScale = conventions.embeddingScale(config.dim);
    this.embedding = weights.get(`${conventions.embedding}.weight`);
    this.parts = buildParts(config, weights, ranks);
  }

  /** Empty memories of a cache. */
  memories(options: MemoryOptions): Memory[] {
    return this.parts.memories(options);
  }

  /** What this rank takes of sequences of `length` tokens in a pass: of the tokens, and of their targets. */
  stretches(length: number): { tokens: Stretch[]; targets: Stretch[] } {
    const { ranks } = this;
    const [before, after] = this.parts.divisions;
    const time = length / ranks.size;
    return { tokens: ownStretches(time, ranks, before), targets: ownStretches(time, ranks, after) };
  }

  /**
   * Hidden states before the final norm, [B, T, dim], or [B, P, dim] at `positions`; nothing is cached.
   * @param recompute keep only the layers' inputs for the backward pass
   */
  hidden(tokens: tf.Tensor2D, positions: Int32Array | null, recompute: boolean): tf.Tensor3D {
    const { exit, divisions } = this.parts;
    const memories = this.parts.present();
    const readouts = this.parts.readouts();
    const [before, after] = divisions;
    const first = passRows(tokens.shape, positions, this.ranks, before);
    const turns = this.ranks.size > 1 && before !== after;
    const pick = (x: tf.Tensor3D): tf.Tensor3D =>
      positions ? pickRows(x, positions) : turns ? inZigzag(x, this.ranks) : x;
    const rows = turns ? passRows(tokens.shape, positions, this.ranks, after) : first;
    const all: Pass = { rows: first, memories, readouts, recompute, embed: () => this.embed(tokens) };
    const some = (): Pass => ({
      ...ofRows(all, pick),
      rows: { ...rows, positions: positions ?? rows.positions },
      embed: () => pick(this.embed(tokens)),
    });
    try {
      const encoded = this.through(this.embed(tokens), 0, exit, all);
      return this.through(pick(encoded), exit, Infinity, some());
    } finally {
      for (const held of [...memories, ...readouts]) held.dispose();
    }
  }

  /**
   * Appends tokens from position `start` on to what is remembered; hidden states of all positions, of the last
   * ([B, 1, dim]), or of none. Only the parts up to the last one that remembers anything run for tokens whose logits
   * nobody wants, unless `earlyExit` is false.
   */
  advance(
    tokens: tf.Tensor2D,
    memories: readonly Memory[],
    rows: Rows,
    { logits, earlyExit = true }: ExtendOptions,
  ): tf.Tensor3D | null {
    const readouts = this.parts.readouts();
    const all: Pass = { rows, memories, readouts, recompute: false, embed: () => this.embed(tokens) };
    try {
      return this.extendRows(tokens, all, logits, earlyExit);
    } finally {
      for (const readout of readouts) readout.dispose();
    }
  }

  private extendRows(
    tokens: tf.Tensor2D,
    all: Pass,
    logits: LogitsWanted,
    earlyExit: boolean,
  ): tf.Tensor3D | null {
    const { exit, list } = this.parts;
    const leavesEarly = earlyExit || exit === list.length;
    const encoded = this.through(this.embed(tokens), 0, exit, all);
    if (leavesEarly && logits === 'none') return null;
    if (leavesEarly && logits === 'last') {
      const last: Rows = { start: all.rows.start + tokens.shape[1] - 1, positions: null };
      const embed = (): tf.Tensor3D => this.embed(lastToken(tokens));
      return this.through(lastRow(encoded), exit, Infinity, { ...ofRows(all, lastRow), rows: last, embed });
    }
    const decoded = this.through(encoded, exit, Infinity, all);
    return logits === 'all' ? decoded : logits === 'last' ? lastRow(decoded) : null;
  }

  /** Hidden states of the rows of a batch whose logits are asked for, [1, rows, dim]; null for none. Its caches hold the tokens then. */
  packed(batch: PackedBatch): tf.Tensor3D | null {
    const { exit } = this.parts;
    const readouts = this.parts.readouts();
    try {
      const all = this.packedPass(batch.all, readouts);
      const encoded = this.through(this.embed(batch.all.ids()), 0, exit, all);
      batch.advance();
      const { indices } = batch.wanted;
      if (indices.length === 0) return null;
      const pick = (x: tf.Tensor3D): tf.Tensor3D =>
        indices.length === x.shape[1] ? x : pickRows(x, indices);
      const some = this.packedPass(batch.wanted, ofRows(all, pick).readouts);
      return this.through(pick(encoded), exit, Infinity, some);
    } finally {
      for (const readout of readouts) readout.dispose();
    }
  }

  private packedPass(packed: PackedRows, readouts: readonly Readout[]): Pass {
    const { rows } = packed;
    return {
      rows,
      memories: packed.memories(),
      readouts,
      recompute: false,
      embed: () => this.embed(packed.ids()),
    };
  }

  /** The parts from `from` up to `to`, one after the other; x is disposed of. */
  private through(x: tf.Tensor3D, from: number, to: number, pass: Pass): tf.Tensor3D {
    return this.parts.list.slice(from, to).reduce((current, part) => step(part, current, pass), x);
  }

  private embed(tokens: tf.Tensor2D): tf.Tensor3D {
    if (tokens.size === 0)
      throw new RangeError(
        `the model needs at least one token, found tokens of shape [${tokens.shape.join(', ')}]`,
      );
    return embedding(this.embedding, tokens, this.embeddingScale) as tf.Tensor3D;
  }
}

/** One part; x is disposed of. */
function step({ work, memory, readout, shares }: Part, x: tf.Tensor3D, pass: Pass): tf.Tensor3D {
  const { rows, memories, readouts, recompute } = pass;
  if (work.kind === 'embeddings') {
    x.dispose();
    return pass.embed();
  }
  const own = memories[memory as number] as Memory;
  if (work.kind === 'memory') {
    const residual = work.projection.append(x, rows, own as KeyValueMemory);
    if (residual !== x) x.dispose();
    return residual;
  }
  const left = readouts[readout] as Readout;
  if (recompute) return recomputedLayer(work.layer, x, rows, { memory: own, readout: left, ...shares });
  return work.layer.forward(x, rows, own, left);
}

/** A pass whose readouts are those of some rows. @param choose of [B, T, W] */
function ofRows(pass: Pass, choose: (x: tf.Tensor3D) => tf.Tensor3D): Pass {
  return { ...pass, readouts: pass.readouts.map((readout) => readout.rows(choose)) };
}
