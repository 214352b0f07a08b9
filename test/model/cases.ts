/** One small model of every kind, with weights that make every part of it matter. */
import type { Communicator } from '../../src/distributed/communicator.js';
import { Random } from '../../src/random.js';
import { createConfig, createModel, type ConfigInput, type LanguageModel } from '../../src/model/index.js';
import * as tf from '../../src/tf.js';

export const SHAPE = { dim: 16, layers: 4, hiddenDim: 20, heads: 4, kvHeads: 2, vocabSize: 13 };

/** Two memories, and a layer of constant state after keys and values that others read. */
export const CUSTOM_LAYOUT = 'sliding-window memory cross attention gated-retention cross memory 2*cross';

/** A small state space: four heads in two groups. */
export const SPACE = { stateDim: 3, stateHeadDim: 8, stateGroups: 2, convKernel: 3 };

/** Heads of a gated delta net whose keys and values differ in width, and together from the model. */
export const DELTA = { deltaKeyDim: 6, deltaValueDim: 10, convKernel: 3 };

/** Readouts of two mixers, read before and after the layer at which a prompt token leaves. */
export const GATED_LAYOUT =
  'gated-retention sliding-window memory gated-memory cross retention gated-memory cross gated-memory';

export const CASES: Record<string, ConfigInput> = {
  'gated retention': { ...SHAPE, selfHeads: 2 },
  'sliding window': { ...SHAPE, selfHeads: 2, slidingWindow: 5 },
  'window of one': { ...SHAPE, selfHeads: 4, slidingWindow: 1, selfLayers: 3 },
  'no cross positions': { ...SHAPE, selfHeads: 2, crossPositions: 'none', selfLayers: 1 },
  transformer: { ...SHAPE, architecture: 'transformer' },
  'tied, scaled, wide heads': {
    ...SHAPE,
    architecture: 'transformer',
    headDim: 6,
    tieEmbeddings: true,
    ropeScaling: {
      type: 'llama3',
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContext: 32,
    },
  },
  'windowed transformer': { ...SHAPE, architecture: 'transformer', slidingWindow: 4 },
  'biased transformer': { ...SHAPE, architecture: 'transformer', attentionBias: true },
  'normed transformer': { ...SHAPE, architecture: 'transformer', slidingWindow: 4, qkNorm: true },
  'yoco, tied': { ...SHAPE, selfHeads: 2, tieEmbeddings: true },
  'yoco, retention': { ...SHAPE, selfHeads: 2, selfDecoder: 'retention' },
  'yoco, 0:1': { ...SHAPE, layers: 2, selfLayers: 0 },
  'unstacked yoco': { ...SHAPE, architecture: 'unstacked-yoco', selfHeads: 2 },
  interleaved: { ...SHAPE, architecture: 'interleaved', selfHeads: 2 },
  gretnet: { ...SHAPE, architecture: 'gretnet', layers: 2, selfHeads: 2 },
  'yoco, gated delta net': { ...SHAPE, selfHeads: 2, selfDecoder: 'gated-delta-net', ...DELTA },
  'interleaved, gated delta net': { ...SHAPE, architecture: 'interleaved', selfDecoder: 'gated-delta-net' },
  'gated deltanet': { ...SHAPE, architecture: 'gated-deltanet', layers: 2, selfHeads: 2 },
  retnet: { ...SHAPE, architecture: 'retnet', layers: 2, selfHeads: 2 },
  cla: { ...SHAPE, architecture: 'cla' },
  cla3: { ...SHAPE, architecture: 'cla3', layers: 3, tieEmbeddings: true },
  gqa: { ...SHAPE, architecture: 'gqa', kvHeads: undefined },
  mqa: { ...SHAPE, architecture: 'mqa', layers: 2, kvHeads: undefined },
  'yoco, mamba-2': { ...SHAPE, selfDecoder: 'mamba-2', ...SPACE },
  'interleaved, mamba-2': {
    ...SHAPE,
    architecture: 'interleaved',
    selfDecoder: 'mamba-2',
    ...SPACE,
    stateGroups: 1,
  },
  mamba2: { ...SHAPE, architecture: 'mamba2', layers: 2, ...SPACE, convKernel: 2, expand: 1 },
  sambay: { ...SHAPE, architecture: 'sambay', layers: 6, selfHeads: 2, slidingWindow: 3, ...SPACE },
  'yoco with gated memory': { ...SHAPE, architecture: 'yoco-gmu', selfHeads: 2, selfLayers: 1 },
  'gated delta net with gated memory': {
    ...SHAPE,
    architecture: 'yoco-gmu',
    selfDecoder: 'gated-delta-net',
    selfHeads: 2,
    selfLayers: 1,
    ...DELTA,
  },
  'gated memory': { ...SHAPE, layout: GATED_LAYOUT, layers: undefined, selfHeads: 2, slidingWindow: 3 },
  custom: { ...SHAPE, layout: CUSTOM_LAYOUT, layers: undefined, selfHeads: 2, slidingWindow: 3 },
};

/**
 * Largest difference of two routes through a model, in units of its largest logit. Noise of 2^-24 on every result of every kernel
 * moves the logits of these by 2.5e-5 and 3.6e-5, of most others by less than 1e-5; both routes may be off by as much.
 */
export const routeTolerance = (name: string): number =>
  ({ sambay: 5e-5, 'gated memory': 7.2e-5 })[name] ?? 1e-5;

/** A model whose weights are larger than the official initialisation, so that every part matters. */
export function testModel(input: ConfigInput, ranks?: Communicator): LanguageModel {
  const model = createModel(createConfig(input), { seed: 7, ranks });
  const random = new Random('weights');
  for (const [name, variable] of model.parameters) {
    const norm = variable.rank === 1;
    const values = new Float32Array(variable.size);
    // Rates at which states forget are small.
    const mean = name.endsWith('A_log') ? -2 : 1;
    model.load(name, random.fillNormal(values, norm ? mean : 0, norm ? 0.1 : 0.4));
  }
  return model;
}

export function randomTokens(batch: number, time: number, seed = 1): number[][] {
  const random = new Random(seed);
  return Array.from({ length: batch }, () =>
    Array.from({ length: time }, () => random.below(SHAPE.vocabSize)),
  );
}

export const ids = (tokens: number[][]): tf.Tensor2D => tf.tensor2d(tokens, undefined, 'int32');
