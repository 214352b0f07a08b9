/** AdamW in place; `ops/adamw`. One pass over memory, which is what bounds it. */
import type { FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';

export const adamW: FusedKernel<'AdamW', CpuBackend> = (inputs, attrs, backend) => {
  const { learningRate, beta1, beta2, epsilon, weightDecay, step } = attrs;
  const parameter = backend.mutableFloats(inputs.parameter);
  const first = backend.mutableFloats(inputs.firstMoment);
  const second = backend.mutableFloats(inputs.secondMoment);
  const gradient = backend.floats(inputs.gradient);
  const scale = inputs.scale ? (backend.floats(inputs.scale)[0] ?? 1) : 1;
  const keep = 1 - learningRate * weightDecay;
  const rate = learningRate / (1 - beta1 ** step);
  const correction = 1 / (1 - beta2 ** step);
  for (let i = 0; i < parameter.length; i++) {
    const g = (gradient[i] as number) * scale;
    const m = beta1 * (first[i] as number) + (1 - beta1) * g;
    const v = beta2 * (second[i] as number) + (1 - beta2) * g * g;
    first[i] = m;
    second[i] = v;
    parameter[i] = keep * (parameter[i] as number) - (rate * m) / (Math.sqrt(v * correction) + epsilon);
  }
  return [];
};
