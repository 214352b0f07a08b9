export {
  ARCHITECTURES,
  CROSS_POSITIONS,
  createConfig,
  headDim,
  SELF_DECODERS,
  selfHeadDim,
  type Architecture,
  type ConfigInput,
  type CrossPositions,
  type ModelConfig,
  type RopeScaling,
  type SelfDecoderKind,
  type TransformerConfig,
  type YocoConfig,
} from './config.js';
export type { CacheBytes, ModelCache } from './cache.js';
export { costs, defaultChunkSize, type Costs } from './costs.js';
export { createModel, type CreateOptions } from './create.js';
export { valueAndGradients, type ValueAndGradients } from './gradients.js';
export type {
  CacheOptions,
  ExtendOptions,
  LanguageModel,
  LogitsWanted,
  LossOptions,
  Objective,
  PrefillOptions,
} from './language-model.js';
export { parameterSpecs, type ParameterSpec } from './parameters.js';
export { presetArchitectures, presetConfig, presetNames, PRESETS } from './presets.js';
