/** The ops that models are written in. */
export { float32Tensor } from './float32.js';
export { adamWRule, IDLE_RULE } from './adamw/rule.js';
export { adamW, adamWAll, type AdamWOptions, type AdamWUpdate } from './adamw/adamw.js';
export { CACHE_TYPES, cacheBytes, cacheDefaults, type CacheType } from './attention/cache-type.js';
export { causalAttention, type AttentionOptions } from './attention/causal-attention.js';
export { compressedAttention } from './attention/compressed-attention.js';
export { CompressedPages } from './attention/compressed-pages.js';
export { KeyValuePages, type Page, type PageOptions } from './attention/key-value-pages.js';
export {
  mergeParts,
  mergeStacked,
  partialAttention,
  type PartialAttention,
} from './attention/partial-attention.js';
export { pagedAttention, type PagedAttentionOptions } from './attention/paged-attention.js';
export { inOrder, joined, ringOf, withPosition, type KeysAndValues } from './attention/window-ring.js';
export { crossEntropy } from './cross-entropy/cross-entropy.js';
export { linearCrossEntropy } from './cross-entropy/linear-cross-entropy.js';
export { type WeightedLoss, weightedCrossEntropy } from './cross-entropy/weighted-cross-entropy.js';
export { embedding } from './embedding/embedding.js';
export { gatedDeltaRule, type DeltaOptions, type DeltaResult } from './gated-delta-rule/gated-delta-rule.js';
export { deltaGates, type DeltaGates } from './gated-delta-rule/gates.js';
export {
  gatedRetention,
  logDecay,
  type RetentionOptions,
  type RetentionResult,
} from './gated-retention/gated-retention.js';
export { rotatedRetention, type RotatedRetentionOptions } from './gated-retention/rotated-retention.js';
export { clipScale, type ClipScale, sumOfSquares } from './global-norm/global-norm.js';
export { COMPUTE_TYPES, type ComputeType, suitsFloat8, weightDefaults } from './linear/compute-type.js';
export { keepInFloat8 } from './linear/float8.js';
export { linear, linearGroup } from './linear/linear.js';
export {
  broadcastTensors,
  gatherSlices,
  handOn,
  receiveTensors,
  sendTensors,
  type Shapes,
  takeOver,
} from './ranks/slices.js';
export { recomputed, recomputedAll } from './recompute.js';
export {
  NotRecordable,
  type RecordedStep,
  type RecordedWork,
  refuseRecorder,
  registerRecorder,
  reportRefusals,
  type StepRecorder,
  stepRecorder,
} from './recording.js';
export { reshape, sliceAxis } from './reshape.js';
export { logDecays, retention, type FixedRetentionOptions } from './retention/retention.js';
export { gatedRmsNorm, preNorm, rmsNorm } from './rms-norm/rms-norm.js';
export { rotary, rotaryPair, type RotaryOptions } from './rotary/rotary.js';
export {
  shortConvolution,
  type ConvolutionOptions,
  type ConvolutionResult,
} from './short-convolution/short-convolution.js';
export {
  stateSpaceDual,
  type StateSpaceInputs,
  type StateSpaceResult,
  type StateSpaceWeights,
} from './state-space-dual/state-space-dual.js';
export { timeSteps, type TimeSteps } from './state-space-dual/time-step.js';
export { storedBytes } from './stored-bytes.js';
export { linearSwiglu, swiglu } from './swiglu/swiglu.js';
