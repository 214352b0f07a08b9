/**
 * The one model: a layout's parts over a residual stream. Three routes lead through them: whole sequences (`forward`, `loss`),
 * where each part's memory is what the pass itself computes; the same with layers recomputed in the backward pass; and
 * `extend`, which continues what a cache remembers and leaves out what a token does not need.
 *
 * The official incremental code of YOCO (microsoft/unilm, YOCO/yoco/models/decoder) has limits that its parallel forward
 * does not have: it pads every chunk of a retention prefill to 256 positions and so needs room for them in `max_seq_len`,
 * decodes single tokens only, and returns zeros where the cross-decoder is skipped. Here all routes follow the parallel
 * forward: any chunking, no logits.
 */
import {
  cacheDefaults,
  embedding,
  gatherSlices,
  linear,
  linearCrossEntropy,
  reshape,
  rmsNorm,
  weightedCrossEntropy,
} from '../ops/index.js';
import { SOLO, type Communicator } from '../distributed/communicator.js';
import * as tf from '../tf.js';
import { createConfig, type ModelConfig } from './config.js';
import { conventionsOf } from './conventions.js';
import { defaultChunkSize } from './costs.js';
import type {
  CacheOptions,
  ExtendOptions,
  LanguageModel,
  LossOptions,
  Objective,
  LogitsWanted,
  PackedSequence,
  PrefillOptions,
} from './language-model.js';
import { dividedRuns, joinLogits, passRows } from './divided-runs.js';
import type { Rows } from './layers/heads.js';
import type { Readout } from './layers/readout.js';
import { recomputedLayer } from './layers/recomputed-layer.js';
import { PackedBatch, type PackedRows } from './packed-batch.js';
import { buildParts, type Part, type Parts } from './parts.js';
import { flatten, lastRow, lastToken, pickRows } from './rows.js';
import type { DividedMemory } from './state/divided.js';
import type { KeyValueMemory, Memory } from './state/memory.js';
import { type ModelCache, StateCache } from './state/state-cache.js';
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

export class Model implements LanguageModel {
  private readonly parts: Parts;
  private readonly embeddingScale: number;
  private readonly embedding: tf.Variable;
  private readonly norm: tf.Variable;
  /** [vocabulary, dim] */
  private readonly output: tf.Variable;
  /** Models of one kind can continue each other's caches. */
  private readonly kind: string;

  /** @param ranks over which sequences are divided, each with this model and the same weights */
  constructor(
    readonly config: ModelConfig,
    private readonly weights: Weights,
    private readonly ranks: Communicator = SOLO,
  ) {
    const conventions = conventionsOf(config);
    const weight = (name: string): tf.Variable => weights.get(`${name}.weight`);
    this.embeddingScale = conventions.embeddingScale(config.dim);
    this.embedding = weight(conventions.embedding);
    this.norm = weight(conventions.norm);
    this.output = config.tieEmbeddings ? this.embedding : weight(conventions.head);
    this.kind = JSON.stringify(config);
    this.parts = buildParts(config, weights, ranks);
  }

  get parameters(): ReadonlyMap<string, tf.Variable> {
    return this.weights.variables;
  }

  /**
   * Hidden states before the final norm, [B, T, dim], or [B, P, dim] at `positions`; nothing is cached.
   * @param recompute keep only the layers' inputs for the backward pass
   */
  private hidden(tokens: tf.Tensor2D, positions: Int32Array | null, recompute: boolean): tf.Tensor3D {
    const { exit } = this.parts;
    const memories = this.parts.present();
    const readouts = this.parts.readouts();
    const first = passRows(tokens.shape[1], positions, this.ranks);
    const pick = (x: tf.Tensor3D): tf.Tensor3D => (positions ? pickRows(x, positions) : x);
    const all: Pass = { rows: first, memories, readouts, recompute, embed: () => this.embed(tokens) };
    const some = (): Pass => ({
      ...ofRows(all, pick),
      rows: { ...first, positions },
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
  private advance(
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

  createCache({ batch = 1, type = cacheDefaults.type, ...size }: CacheOptions = {}): ModelCache {
    const memories = this.parts.memories({ batch, type, ...size });
    return new StateCache({ batch, memories, kind: this.kind });
  }

  forward(tokens: tf.Tensor2D): tf.Tensor3D {
    return tf.tidy(() => this.logits(this.hidden(tokens, null, false)));
  }

  loss(tokens: tf.Tensor2D, targets: tf.Tensor2D, options: LossOptions = {}): tf.Tensor2D {
    return tf.tidy(() => {
      const { x, flatTargets, shape } = this.lossRows(tokens, targets, options);
      return reshape<tf.Rank.R2>(linearCrossEntropy(x, this.outputWeight, flatTargets), shape);
    });
  }

  objective(
    tokens: tf.Tensor2D,
    targets: tf.Tensor2D,
    weights: tf.Tensor2D | null,
    options: LossOptions = {},
  ): Objective {
    return tf.tidy(() => {
      const { x, flatTargets, shape } = this.lossRows(tokens, targets, options);
      const factors = weights && tf.reshape<tf.Rank.R1>(weights, [flatTargets.size]);
      const { total, losses } = weightedCrossEntropy(x, this.outputWeight, flatTargets, factors);
      return { total, losses: tf.reshape<tf.Rank.R2>(losses, shape) };
    });
  }

  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions & { logits: 'none' }): null;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions & { logits: 'last' }): tf.Tensor2D;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions & { logits: 'all' }): tf.Tensor3D;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions): tf.Tensor2D | tf.Tensor3D | null;
  extend(tokens: tf.Tensor2D, cache: ModelCache, options: ExtendOptions): tf.Tensor2D | tf.Tensor3D | null {
    const state = StateCache.of(cache, this.kind);
    const [batch, count] = tokens.shape;
    if (batch !== state.batch) {
      throw new RangeError(`the cache is for ${state.batch} sequences, but tokens have ${batch}`);
    }
    if (count === 0) throw new RangeError('no tokens to extend the cache by');
    const runs = dividedRuns(count, options.logits, this.ranks.size);
    const parts = runs.flatMap(({ from, to, isDivided }) =>
      tf.tidy(() => {
        const part = to - from === count ? tokens : tf.slice(tokens, [0, from], [batch, to - from]);
        return isDivided ? this.extendSlices(part, state, options) : this.extendWhole(part, state, options);
      }),
    );
    return joinLogits(parts, options.logits);
  }

  /** Every rank computes all of the tokens: of one alone, or of few tokens. */
  private extendWhole(tokens: tf.Tensor2D, state: StateCache, options: ExtendOptions): tf.Tensor[] {
    const rows: Rows = { start: state.length, positions: null };
    const hidden = this.advance(tokens, state.memories, rows, options);
    state.length += tokens.shape[1];
    state.settle();
    if (hidden === null) return [];
    const scores = this.logits(hidden);
    if (options.logits === 'all') return [scores];
    return [tf.reshape(scores, [tokens.shape[0], this.config.vocabSize])];
  }

  /** Every rank computes a slice of the tokens; all have the logits of all. */
  private extendSlices(tokens: tf.Tensor2D, state: StateCache, options: ExtendOptions): tf.Tensor[] {
    const { ranks } = this;
    const [batch, count] = tokens.shape;
    const share = count / ranks.size;
    const from = ranks.rank * share;
    const rows: Rows = { start: state.length + from, positions: null, isSlice: true };
    const own = tf.slice(tokens, [0, from], [batch, share]);
    const wanted = { ...options, logits: options.logits === 'all' ? 'all' : 'none' } as const;
    const hidden = this.advance(own, state.memories, rows, wanted);
    state.length += count;
    for (const memory of state.memories) (memory as DividedMemory).unite();
    state.settle();
    if (hidden === null) return [];
    const scores = tf.expandDims<tf.Tensor4D>(this.logits(hidden), 2);
    return [tf.squeeze(gatherSlices(scores, ranks), [2])];
  }

  extendPacked(sequences: readonly PackedSequence[]): tf.Tensor2D | null {
    if (this.ranks.size > 1) throw new RangeError('sequences divided over ranks are not packed');
    const batch = new PackedBatch(sequences, (cache) => StateCache.of(cache, this.kind));
    const { exit } = this.parts;
    const readouts = this.parts.readouts();
    const [result] = tf.tidy((): tf.Tensor2D[] => {
      const all = this.packedPass(batch.all, readouts);
      const encoded = this.through(this.embed(batch.all.ids()), 0, exit, all);
      batch.advance();
      const { wanted } = batch;
      const count = wanted.indices.length;
      if (count === 0) return [];
      const pick = (x: tf.Tensor3D): tf.Tensor3D => (count === x.shape[1] ? x : pickRows(x, wanted.indices));
      const some = this.packedPass(wanted, ofRows(all, pick).readouts);
      const scores = this.logits(this.through(pick(encoded), exit, Infinity, some));
      return [tf.reshape<tf.Rank.R2>(scores, [count, this.config.vocabSize])];
    });
    for (const readout of readouts) readout.dispose();
    for (const { cache } of sequences) StateCache.of(cache, this.kind).settle();
    return result ?? null;
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

  prefill(tokens: tf.Tensor2D, cache: ModelCache, options: PrefillOptions = {}): tf.Tensor2D {
    const { chunkSize = defaultChunkSize(this.config), onProgress, earlyExit = true } = options;
    const [batch, count] = tokens.shape;
    if (!(chunkSize >= 1)) throw new RangeError(`chunkSize must be positive, found ${chunkSize}`);
    let logits: tf.Tensor2D | null = null;
    for (let start = 0; start < count; start += chunkSize) {
      const length = Math.min(chunkSize, count - start);
      const last = start + length === count;
      const chunk = tf.slice(tokens, [0, start], [batch, length]);
      if (last) logits = this.extend(chunk, cache, { logits: 'last', earlyExit });
      else this.extend(chunk, cache, { logits: 'none', earlyExit });
      chunk.dispose();
      onProgress?.(start + length);
    }
    if (logits === null) throw new RangeError('the prompt has no tokens');
    return logits;
  }

  decode(tokens: tf.Tensor1D, cache: ModelCache): tf.Tensor2D {
    const compute = (tokens: tf.Tensor1D): tf.Tensor2D =>
      tf.tidy(() => this.extend(tf.reshape<tf.Rank.R2>(tokens, [-1, 1]), cache, { logits: 'last' }));
    return StateCache.of(cache, this.kind).step(tokens, this.weights.list, compute);
  }

  withTheta(ropeTheta: number): LanguageModel {
    return new Model(createConfig({ ...this.config, ropeTheta }), this.weights, this.ranks);
  }

  load(name: string, values: Float32Array): void {
    this.weights.load(name, values);
  }

  dispose(): void {
    this.weights.dispose();
  }

  private get outputWeight(): tf.Tensor2D {
    return this.output as tf.Tensor as tf.Tensor2D;
  }

  /** Rows [N, dim] for the output head, and their targets, [N]. */
  private lossRows(
    tokens: tf.Tensor2D,
    targets: tf.Tensor2D,
    { positions, recompute = false }: LossOptions,
  ): { x: tf.Tensor2D; flatTargets: tf.Tensor1D; shape: [number, number] } {
    const hidden = this.hidden(tokens, positions ? flatten(positions) : null, recompute);
    const [batch, rows, dim] = hidden.shape;
    if (targets.shape[0] !== batch || targets.shape[1] !== rows) {
      throw new RangeError(`targets have shape [${targets.shape.join(', ')}], expected [${batch}, ${rows}]`);
    }
    const x = reshape<tf.Rank.R2>(this.finalNorm(hidden), [batch * rows, dim]);
    return { x, flatTargets: tf.reshape<tf.Rank.R1>(targets, [batch * rows]), shape: [batch, rows] };
  }

  private finalNorm(hidden: tf.Tensor3D): tf.Tensor3D {
    return rmsNorm(hidden, this.norm, this.config.normEps);
  }

  private logits(hidden: tf.Tensor3D): tf.Tensor3D {
    return linear(this.finalNorm(hidden), this.output) as tf.Tensor3D;
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
    work.projection.append(x, rows, own as KeyValueMemory);
    return x;
  }
  const left = readouts[readout] as Readout;
  if (recompute) return recomputedLayer(work.layer, x, rows, { memory: own, readout: left, ...shares });
  return work.layer.forward(x, rows, own, left);
}

/** A pass whose readouts are those of some rows. @param choose of [B, T, W] */
function ofRows(pass: Pass, choose: (x: tf.Tensor3D) => tf.Tensor3D): Pass {
  return { ...pass, readouts: pass.readouts.map((readout) => readout.rows(choose)) };
}
