/** Generation and scoring of text. */
export { describeTokens, loadCandidates, remarkContext, type Candidate } from '../evaluation/candidates.js';
export { requireGenerationMemory, scoringBatch } from '../evaluation/scoring/memory.js';
export {
  generate,
  promptTokens,
  type GenerateOptions,
  type GenerateSpeed,
} from '../evaluation/generation/generate.js';
export { continueTogether, textAfter } from '../evaluation/generation/together.js';
export { generateTokens, type GenerationOptions } from '../evaluation/generation/generation.js';
export {
  greedyChoice,
  greedySampler,
  randomChoice,
  randomSampler,
  sharedSampler,
  type Sampler,
  type SamplingOptions,
  type TokenChoice,
} from '../evaluation/generation/sampling.js';
export {
  checkpointSampling,
  chooseSampling,
  type SamplingSettings,
} from '../evaluation/generation/checkpoint-sampling.js';
export {
  encodeRequest,
  scoreRequests,
  type Score,
  type ScoreOptions,
  type ScoreRequest,
} from '../evaluation/scoring/likelihood.js';
export { Random } from '../random.js';
