/** The learning rate over a run: linear warm-up to the peak, then a decay to the minimum at the last step, or none. */
export type Decay = 'cosine' | 'linear' | 'constant';

export const DECAYS: readonly Decay[] = ['cosine', 'linear', 'constant'];

export interface Schedule {
  readonly steps: number;
  readonly warmup: number;
  readonly learningRate: number;
  readonly minLearningRate: number;
  readonly decay: Decay;
}

/** The learning rate of `step`, counted from 1. */
export function learningRateAt(step: number, schedule: Schedule): number {
  const { steps, warmup, learningRate, minLearningRate, decay } = schedule;
  if (step <= warmup) return (learningRate * step) / warmup;
  if (decay === 'constant') return learningRate;
  const done = (step - warmup) / Math.max(1, steps - warmup);
  const share = decay === 'linear' ? 1 - done : (1 + Math.cos(Math.PI * done)) / 2;
  return minLearningRate + (learningRate - minLearningRate) * share;
}
