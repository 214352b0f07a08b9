import type { AdamWAttributes } from '../kernel-attributes.js';

/**
 * What an update by AdamW takes from its step, as `AdamWAll` reads it from a tensor: β₁, β₂, ε, the learning rate over 1 − β₁ᵗ,
 * 1 / (1 − β₂ᵗ), and the learning rate, which decays.
 */
export function adamWRule(attrs: Omit<AdamWAttributes, 'weightDecay'>): Float32Array {
  const { learningRate, beta1, beta2, epsilon, step } = attrs;
  const rate = learningRate / (1 - beta1 ** step);
  return Float32Array.of(beta1, beta2, epsilon, rate, 1 / (1 - beta2 ** step), learningRate);
}

/** A rule by which an update changes nothing. */
export const IDLE_RULE = Float32Array.of(0, 0, 0, NaN, 0, 0);
