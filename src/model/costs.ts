/**
 * What a configuration costs, by formula: parameters, floating-point operations, bytes. No tensor is made.
 *
 * An operation is a multiplication or an addition of a matrix product (2 m n k for an m x k by k x n product) or of the mixing
 * of positions; norms, activations, rotations and the softmax, which are of lower order, are left out. Gated
 * retention is counted in its recurrent form, 4 Dk Dv per head and token: what has to be done, not what a chunkwise
 * implementation does on top.
 */
import { cacheBytes, cacheDefaults, type CacheType } from '../ops/attention/cache-type.js';
import { limits } from '../ops/limits.js';
import { type ComputeType, float8Bytes, weightDefaults } from '../ops/linear/compute-type.js';
import { headDim, layoutOf, type ModelConfig } from './config.js';
import type { LayoutWord } from './layouts.js';
import { mixer } from './mixers/index.js';
import type { MixerName } from './mixers/list.js';
import { elements, type ParameterSpec, parameterSpecs, readWidth, requireFloat8 } from './parameters.js';

export interface PrefillCost {
  /** Default true: the layers after the last one that remembers anything run for the last position only. */
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
  /** How keys and values of a whole context are stored; null: as the rest. Default: what the engine was started with. */
  readonly cacheType?: CacheType | null;
  /** How weights are stored that suit it; null: as the rest. Default: what the engine was started with. */
  readonly weightType?: ComputeType | null;
  /**
   * Counts logits of every position of a chunk in layouts whose prompt passes every layer, as the official Transformer code
   * computes them (its forward pass applies the output head to all positions). Layouts with an early exit need the last
   * position only. Default false: the code here computes the last position's in every layout.
   */
  readonly chunkLogits?: boolean;
  /** Ranks that divide each sequence between them; the answer is then of one rank. Default 1. */
  readonly ranks?: number;
}

export interface InferenceMemory {
  readonly weights: number;
  /** Keys and values of the whole context; of a compressed cache also the newest ones as computed. */
  readonly keyValue: number;
  /** Recurrent states, in float32, and windows. */
  readonly state: number;
  /** Largest activations of a chunk, the copy of a concatenated cache and the logits of a chunk included where they are asked for. */
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
  /** Bytes of keys and values, with their scales, that every further token of a sequence adds to the cache. */
  keyValueBytesPerToken(bytesPerElement: number, type?: CacheType | null): number;
  /** Bytes of keys and values that decoding a token reads per token of context: those of every layer that attends to them. */
  keyValueReadBytesPerToken(bytesPerElement: number, type?: CacheType | null): number;
  /** Bytes per sequence of states that do not grow (windows when full; recurrent states in float32). */
  stateBytes(bytesPerElement: number): number;
  weightBytes(bytesPerElement: number, type?: ComputeType | null): number;
  /**
   * Largest activations while a chunk passes: in the feed-forward network (the residual stream, its normed copy, the two
   * projections and their product), or in a mixer that holds more.
   */
  peakActivationBytes(chunk: number, bytesPerElement: number, batch?: number): number;
  inferenceMemory(question: MemoryQuestion): InferenceMemory;
}

/** Chunk of the official prefill. */
const OFFICIAL_CHUNK = 32768;

/** The largest power of two of tokens, from 256 to 32,768, whose activations fit `limits.chunkBytes`. */
export function defaultChunkSize(config: ModelConfig): number {
  const perToken = 4 * activationWidth(config);
  const fitting = 2 ** Math.floor(Math.log2(limits.chunkBytes / perToken));
  return Math.min(OFFICIAL_CHUNK, Math.max(256, fitting));
}

function activationWidth(config: ModelConfig): number {
  const { dim, hiddenDim } = config;
  const mixers = layoutOf(config).parts.flatMap(({ word, layer }) =>
    layer === null ? [] : [word as MixerName],
  );
  const ofMixers = [...new Set(mixers)].map((name) => mixer(name).activationWidth?.(config) ?? 0);
  return Math.max(2 * dim + 3 * hiddenDim, ...ofMixers);
}

export function costs(config: ModelConfig): Costs {
  const specs = parameterSpecs(config);
  const parameters = specs.reduce((sum, { shape }) => sum + elements(shape), 0);
  const weightBytes = (bytes: number, type = weightDefaults.stored): number => {
    if (type !== null) requireFloat8(specs);
    const bytesOf = ({ shape, suitsFloat8 }: ParameterSpec): number =>
      type !== null && suitsFloat8 ? float8Bytes(shape) : elements(shape) * bytes;
    return specs.reduce((sum, spec) => sum + bytesOf(spec), 0);
  };
  const { dim, vocabSize, tieEmbeddings } = config;
  const groups = partGroups(config);
  const head = 2 * dim * vocabSize;
  const elementsKept = total(groups, ({ keyValueElements }) => keyValueElements);
  /** Bytes of an element of keys and values, and of the newest ones that are kept as computed beside it. */
  const stored = (bytes: number, type: CacheType | null): { element: number; recent: number } => {
    const width = headDim(config);
    const { perPosition, recent } = cacheBytes(type ?? 'float32', width, bytes, type !== null);
    return { element: perPosition / (2 * width), recent: recent / (2 * width) };
  };
  const perToken = (bytes: number, type = cacheDefaults.type): number =>
    elementsKept * stored(bytes, type).element;
  const reads = (bytes: number, type = cacheDefaults.type): number =>
    total(groups, ({ readElements }) => readElements) * stored(bytes, type).element;
  const state = (bytes: number): number => total(groups, ({ stateBytes }) => stateBytes(bytes));
  const activations = (chunk: number, bytes: number, batch = 1): number =>
    batch * chunk * activationWidth(config) * bytes;
  /** Operations for `count` positions after `before` others; parts after the exit run for the last `decoded` only. */
  const positions = (before: number, count: number, decoded: number): number =>
    total(groups, ({ isBeforeExit, flops }) =>
      isBeforeExit ? flops(before, count) : flops(before + count - decoded, decoded),
    );

  return {
    parameters: () => parameters,
    embeddingParameters: (tieEmbeddings ? 1 : 2) * dim * vocabSize,
    prefillFlops: (tokens, { earlyExit = true, batch = 1 } = {}) =>
      batch * (positions(0, tokens, earlyExit ? 1 : tokens) + head),
    decodeFlops: (context) => positions(context - 1, 1, 1) + head,
    trainFlopsPerToken: (context) => 3 * (positions(0, context, context) / context + head),
    keyValueBytesPerToken: perToken,
    keyValueReadBytesPerToken: reads,
    stateBytes: state,
    weightBytes,
    peakActivationBytes: activations,
    inferenceMemory({
      context,
      bytesPerElement,
      batch = 1,
      chunk = OFFICIAL_CHUNK,
      concatenatedCache = false,
      cacheType = cacheDefaults.type,
      weightType = weightDefaults.stored,
      chunkLogits = false,
      ranks = 1,
    }) {
      const { element, recent } = stored(bytesPerElement, cacheType);
      const kept = Math.ceil(context / ranks);
      const keyValue = batch * elementsKept * (kept * element + recent);
      const states = batch * state(bytesPerElement);
      const weights = weightBytes(bytesPerElement, weightType);
      const largest = Math.max(
        0,
        ...groups.map(({ word, keyValueElements }) => (word === 'attention' ? keyValueElements : 0)),
      );
      const copied = concatenatedCache ? batch * kept * largest * element : 0;
      const rows = Math.ceil(Math.min(chunk, context) / ranks);
      const inLayers = activations(rows, bytesPerElement, batch) + copied;
      // The head runs after the layers, whose activations are gone: the stream, its normed copy and the logits are left.
      const inHead = batch * rows * (2 * dim + vocabSize) * bytesPerElement;
      const working = chunkLogits && !hasEarlyExit(config) ? Math.max(inLayers, inHead) : inLayers;
      const total = weights + keyValue + states + working;
      return { weights, keyValue, state: states, activations: working, total };
    },
  };
}

/** Whether a prompt token leaves before the last layer. */
function hasEarlyExit(config: ModelConfig): boolean {
  const { parts, exit } = layoutOf(config);
  return exit < parts.length;
}

/** Equal parts of a layout on one side of its exit, and what one of them costs. */
interface PartGroup {
  readonly word: LayoutWord;
  count: number;
  readonly isBeforeExit: boolean;
  readonly keyValueElements: number;
  /** Elements of keys and values per position that it reads when a token is decoded. */
  readonly readElements: number;
  readonly stateBytes: (bytesPerElement: number) => number;
  /** Operations for `count` positions after `before` others. */
  readonly flops: (before: number, count: number) => number;
}

function total(groups: readonly PartGroup[], of: (group: PartGroup) => number): number {
  return groups.reduce((sum, group) => sum + group.count * of(group), 0);
}

function partGroups(config: ModelConfig): PartGroup[] {
  const layout = layoutOf(config);
  const groups = new Map<string, PartGroup>();
  for (const [i, part] of layout.parts.entries()) {
    const { word } = part;
    const isBeforeExit = i < layout.exit;
    const width = readWidth(part, layout, config);
    const key = `${word} ${isBeforeExit} ${width}`;
    const group = groups.get(key) ?? { word, count: 0, isBeforeExit, ...partCosts(word, width, config) };
    group.count++;
    groups.set(key, group);
  }
  return [...groups.values()];
}

function partCosts(
  word: LayoutWord,
  readWidth: number,
  config: ModelConfig,
): Pick<PartGroup, 'keyValueElements' | 'readElements' | 'stateBytes' | 'flops'> {
  const { dim, hiddenDim, kvHeads } = config;
  const none = { keyValueElements: 0, readElements: 0, stateBytes: () => 0, flops: () => 0 };
  const keyValue = 2 * kvHeads * headDim(config);
  if (word === 'embeddings') return none;
  if (word === 'memory') {
    return { ...none, keyValueElements: keyValue, flops: (_, count) => count * 2 * dim * keyValue };
  }
  const definition = mixer(word);
  const { projections, mixing } = definition.flops(config, readWidth);
  const perPosition = projections + 2 * 3 * dim * hiddenDim;
  const own = definition.keyValueElements(config);
  return {
    keyValueElements: own,
    readElements: word === 'cross' ? keyValue : own,
    stateBytes: (bytes) => definition.stateBytes(config, bytes),
    flops: (before, count) => count * perPosition + mixing(before, count),
  };
}
