/**
 * What a configuration costs, by formula: parameters, floating-point operations, bytes. No tensor is made.
 *
 * An operation is a multiplication or an addition of a matrix product (2 m n k for an m x k by k x n product) or of the mixing
 * of positions; norms, activations, rotations and the softmax, which are of lower order, are left out. Gated
 * retention is counted in its recurrent form, 4 Dk Dv per head and token: what has to be done, not what a chunkwise
 * implementation does on top.
 */
import { limits } from '../ops/limits.js';
import { headDim, selfHeadDim, type ModelConfig, type TransformerConfig, type YocoConfig } from './config.js';
import { elements, parameterSpecs } from './parameters.js';

export interface PrefillCost {
  /** Default true: the cross-decoder runs for the last position only. */
  readonly earlyExit?: boolean;
  readonly batch?: number;
}

export interface MemoryQuestion {
  /** Tokens in the context. */
  readonly context: number;
  /** Tokens per chunk of the prefill; default: the whole context at once, at most 32,768 as in the official code. */
  readonly chunk?: number;
  readonly batch?: number;
  /** Bytes per element of weights, keys, values, states and activations: 4, or 2 for bfloat16. */
  readonly bytesPerElement: number;
  /**
   * Adds the copy of one layer's keys and values that the official Transformer makes when it appends to its cache
   * (torch.cat in its attention). The paged cache here makes none.
   */
  readonly concatenatedCache?: boolean;
}

export interface InferenceMemory {
  readonly weights: number;
  /** Keys and values of the whole context. */
  readonly keyValue: number;
  /** Recurrent states, in float32, and windows. */
  readonly state: number;
  /** Largest activations of a chunk, and the copy of a concatenated cache. */
  readonly activations: number;
  readonly total: number;
}

export interface Costs {
  parameters(): number;
  /** Parameters of the token embedding and, unless tied, the output head. */
  readonly embeddingParameters: number;
  /** Operations to consume a prompt and give the logits of its last position. */
  prefillFlops(tokens: number, options?: PrefillCost): number;
  /** Operations for one token of one sequence that sees `context` positions, itself included. */
  decodeFlops(context: number): number;
  /** Operations of a training step per token: forward at every position, and twice that backward. */
  trainFlopsPerToken(context: number): number;
  /** Bytes of keys and values that every further token of a sequence adds to the cache. */
  keyValueBytesPerToken(bytesPerElement: number): number;
  /** Bytes per sequence of states that do not grow (windows when full; recurrent states in float32). */
  stateBytes(bytesPerElement: number): number;
  weightBytes(bytesPerElement: number): number;
  /**
   * Largest activations while a chunk passes: in the feed-forward network, the residual stream, its normed copy, the
   * two projections and their product.
   */
  peakActivationBytes(chunk: number, bytesPerElement: number, batch?: number): number;
  inferenceMemory(question: MemoryQuestion): InferenceMemory;
}

/** An element of gated retention's state, which sums over the whole context and is kept in float32. */
const RETENTION_STATE_BYTES = 4;

/** Chunk of the official prefill. */
const OFFICIAL_CHUNK = 32768;

/** The largest power of two of tokens, from 256 to 32,768, whose activations fit `limits.chunkBytes`. */
export function defaultChunkSize(config: ModelConfig): number {
  const perToken = 4 * activationWidth(config);
  const fitting = 2 ** Math.floor(Math.log2(limits.chunkBytes / perToken));
  return Math.min(OFFICIAL_CHUNK, Math.max(256, fitting));
}

function activationWidth({ dim, hiddenDim }: ModelConfig): number {
  return 2 * dim + 3 * hiddenDim;
}

export function costs(config: ModelConfig): Costs {
  const parameters = parameterSpecs(config).reduce((sum, { shape }) => sum + elements(shape), 0);
  const { dim, vocabSize } = config;
  const tied = config.architecture === 'transformer' && config.tieEmbeddings;
  const flops = config.architecture === 'yoco' ? yocoFlops(config) : transformerFlops(config);
  const head = 2 * dim * vocabSize;
  const perToken = (bytes: number): number => keyValueElements(config) * bytes;
  const retains = config.architecture === 'yoco' && config.slidingWindow === null;
  const state = (bytes: number): number => stateElements(config) * (retains ? RETENTION_STATE_BYTES : bytes);
  const activations = (chunk: number, bytes: number, batch = 1): number =>
    batch * chunk * activationWidth(config) * bytes;

  return {
    parameters: () => parameters,
    embeddingParameters: (tied ? 1 : 2) * dim * vocabSize,
    prefillFlops: (tokens, { earlyExit = true, batch = 1 } = {}) =>
      batch * (flops.positions(0, tokens, earlyExit ? 1 : tokens) + head),
    decodeFlops: (context) => flops.positions(context - 1, 1, 1) + head,
    trainFlopsPerToken: (context) => 3 * (flops.positions(0, context, context) / context + head),
    keyValueBytesPerToken: perToken,
    stateBytes: state,
    weightBytes: (bytes) => parameters * bytes,
    peakActivationBytes: activations,
    inferenceMemory({
      context,
      bytesPerElement,
      batch = 1,
      chunk = OFFICIAL_CHUNK,
      concatenatedCache = false,
    }) {
      const keyValue = batch * context * perToken(bytesPerElement);
      const states = batch * state(bytesPerElement);
      const weights = parameters * bytesPerElement;
      const copies = concatenatedCache && config.architecture === 'transformer' ? 1 : 0;
      const copied = (copies * keyValue) / config.layers;
      const working = activations(Math.min(chunk, context), bytesPerElement, batch) + copied;
      const total = weights + keyValue + states + working;
      return { weights, keyValue, state: states, activations: working, total };
    },
  };
}

/** Elements of keys and values that every token adds to a cache. */
function keyValueElements(config: ModelConfig): number {
  const layer = 2 * config.kvHeads * headDim(config);
  if (config.architecture === 'yoco') return layer;
  return config.slidingWindow === null ? config.layers * layer : 0;
}

/** Elements of states per sequence that do not grow. */
function stateElements(config: ModelConfig): number {
  const { slidingWindow } = config;
  if (config.architecture === 'transformer') {
    return slidingWindow === null ? 0 : config.layers * 2 * slidingWindow * config.kvHeads * config.headDim;
  }
  const { dim, selfLayers } = config;
  return selfLayers * (slidingWindow === null ? dim * selfHeadDim(config) : 2 * slidingWindow * dim);
}

interface LayerFlops {
  /**
   * Operations for `count` positions after `before` others, without the output head; where the architecture can leave early, its
   * second half runs for the last `decoded` positions only.
   */
  positions(before: number, count: number, decoded: number): number;
}

/** Keys that positions before..before+count-1 see, all together. */
function keysSeen(before: number, count: number, window: number | null): number {
  const upTo = (n: number): number => {
    const growing = Math.min(n, window ?? Infinity);
    return (growing * (growing + 1)) / 2 + (n - growing) * growing;
  };
  return upTo(before + count) - upTo(before);
}

function yocoFlops(config: YocoConfig): LayerFlops {
  const { dim, hiddenDim, layers, selfLayers, selfHeads, kvHeads, slidingWindow } = config;
  const feedForward = 2 * 3 * dim * hiddenDim;
  const retention = slidingWindow === null;
  const selfProjections = 2 * (retention ? 5 * dim * dim + dim * selfHeads : 4 * dim * dim);
  const keyValue = 2 * 2 * dim * kvHeads * headDim(config);
  const selfMixing = (before: number, count: number): number =>
    retention ? count * 4 * dim * selfHeadDim(config) : 4 * dim * keysSeen(before, count, slidingWindow);
  return {
    positions(before, count, decoded) {
      const self = count * (selfProjections + feedForward) + selfMixing(before, count);
      const attention = 4 * dim * keysSeen(before + count - decoded, decoded, null);
      const cross = decoded * (2 * 2 * dim * dim + feedForward) + attention;
      return selfLayers * self + count * keyValue + (layers - selfLayers) * cross;
    },
  };
}

function transformerFlops(config: TransformerConfig): LayerFlops {
  const { dim, hiddenDim, layers, heads, kvHeads, slidingWindow } = config;
  const queryWidth = heads * config.headDim;
  const keyWidth = kvHeads * config.headDim;
  const linear = 2 * (2 * dim * queryWidth + 2 * dim * keyWidth + 3 * dim * hiddenDim);
  return {
    positions(before, count) {
      return layers * (count * linear + 4 * queryWidth * keysSeen(before, count, slidingWindow));
    },
  };
}
