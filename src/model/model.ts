/**
 * The one model: a layout's parts (`stack.ts`) and the output head. `forward` and `loss` compute whole sequences; `extend`
 * continues what a cache remembers and leaves out what a token does not need.
 *
 * The official incremental code of YOCO (microsoft/unilm, YOCO/yoco/models/decoder) has limits that its parallel forward
 * does not have: it pads every chunk of a retention prefill to 256 positions and so needs room for them in `max_seq_len`,
 * decodes single tokens only, and returns zeros where the cross-decoder is skipped. Here all routes follow the parallel
 * forward: any chunking, no logits.
 */
import {
  cacheDefaults,
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
  PackedSequence,
  PrefillOptions,
  Stretches,
} from './language-model.js';
import { dividedRuns, joinLogits } from './divided-runs.js';
import type { Rows } from './layers/heads.js';
import { PackedBatch } from './packed-batch.js';
import { flatten } from './rows.js';
import { Stack } from './stack.js';
import type { DividedMemory } from './state/memory.js';
import { type ModelCache, StateCache } from './state/state-cache.js';
import type { Weights } from './weights.js';

export class Model implements LanguageModel {
  private readonly stack: Stack;
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
    this.norm = weight(conventions.norm);
    this.output = weight(config.tieEmbeddings ? conventions.embedding : conventions.head);
    this.kind = JSON.stringify(config);
    this.stack = new Stack(config, weights, ranks);
  }

  get parameters(): ReadonlyMap<string, tf.Variable> {
    return this.weights.variables;
  }

  stretches(length: number): Stretches {
    return this.stack.stretches(length);
  }

  get chunkTokens(): number {
    return defaultChunkSize(this.config) * this.ranks.size;
  }

  createCache({ batch = 1, type = cacheDefaults.type, ...size }: CacheOptions = {}): ModelCache {
    const memories = this.stack.memories({ batch, type, ...size });
    return new StateCache({ batch, memories, kind: this.kind, ranks: this.ranks });
  }

  forward(tokens: tf.Tensor2D): tf.Tensor3D {
    return tf.tidy(() => this.logits(this.stack.hidden(tokens, null, false)));
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
    const hidden = this.stack.advance(tokens, state.memories, rows, options);
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
    const hidden = this.stack.advance(own, state.memories, rows, wanted);
    state.length += count;
    for (const memory of state.memories) (memory as DividedMemory).unite();
    state.settle();
    if (hidden === null) return [];
    const scores = tf.expandDims<tf.Tensor4D>(this.logits(hidden), 2);
    return [tf.squeeze(gatherSlices(scores, ranks), [2])];
  }

  extendPacked(sequences: readonly PackedSequence[]): tf.Tensor2D | null {
    if (this.ranks.size > 1) throw new RangeError('sequences divided over ranks are not packed');
    const stateOf = (cache: ModelCache): StateCache => StateCache.of(cache, this.kind);
    const batch = new PackedBatch(sequences, stateOf);
    const [result] = tf.tidy((): tf.Tensor2D[] => {
      const hidden = this.stack.packed(batch);
      if (hidden === null) return [];
      return [tf.reshape<tf.Rank.R2>(this.logits(hidden), [hidden.shape[1], this.config.vocabSize])];
    });
    for (const { cache } of sequences) stateOf(cache).settle();
    return result ?? null;
  }

  prefill(tokens: tf.Tensor2D, cache: ModelCache, options: PrefillOptions = {}): tf.Tensor2D {
    const { chunkSize = this.chunkTokens, onProgress, earlyExit = true } = options;
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

  load(name: string, values: Float32Array, keepsFloat32 = false): void {
    this.weights.load(name, values, keepsFloat32);
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
    const hidden = this.stack.hidden(tokens, positions ? flatten(positions) : null, recompute);
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
