export {
  architectureName,
  createConfig,
  headDim,
  layoutOf,
  selfDecoderOf,
  type ConfigInput,
  type LayoutConfig,
  type ModelConfig,
  type TransformerConfig,
  type YocoConfig,
} from './config.js';
export { ARCHITECTURES, LAYOUT_NAMES, LAYOUTS, type Architecture, type Layout } from './layouts.js';
export { MIXER_NAMES, SELF_DECODERS, type MixerName, type SelfDecoderKind } from './mixers/list.js';
export { CROSS_POSITIONS, type CrossPositions } from './mixers/cross.js';
export type { RopeScaling } from './rope-scaling.js';
export type { CacheBytes, ModelCache } from './state/state-cache.js';
export { costs, defaultChunkSize, type Costs } from './costs.js';
export { createModel, type CreateOptions } from './create.js';
export { type GradientSink, valueAndGradients, type ValueAndGradients } from './gradients.js';
export { INITIAL_VALUE_NAMES, INITIAL_VALUES, type InitialValues } from './initial-values.js';
export type {
  CacheOptions,
  ExtendOptions,
  LanguageModel,
  LogitsWanted,
  LossOptions,
  Objective,
  PackedSequence,
  PrefillOptions,
} from './language-model.js';
export { parameterSpecs, type ParameterSpec } from './parameters.js';
export { presetArchitectures, presetConfig, presetNames, PRESETS } from './presets.js';
export { undividedKeys } from './state/divided.js';
export { fillCache } from './state/fill.js';
