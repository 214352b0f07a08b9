/** Causal attention and its gradient by the kernels in C; `ops/attention`. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CausalAttentionAttributes, FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { causalAttention as bySessions } from '../fused/attention.js';
import { causalAttentionGrad as gradientBySessions } from '../fused/attention-grad.js';
import type { Native } from './library.js';

/** More keys than these are left to kernels that do not hold the scores of a query with all of them. */
const MOST_KEYS = 2 ** 14;

/** What the kernels are told of shapes and attributes; undefined where they do not serve. */
function sizesOf(
  q: TensorInfo,
  k: TensorInfo,
  { positions, window, scale }: CausalAttentionAttributes,
): number[] | undefined {
  const [batch, time, heads, width] = q.shape as [number, number, number, number];
  const [, length, kvHeads] = k.shape as [number, number, number];
  if (positions !== null || length > MOST_KEYS) return undefined;
  return [batch, time, length, heads, kvHeads, width, Math.min(window ?? length, length), scale];
}

export const causalAttention =
  (native: Native): FusedKernel<'CausalAttention', CpuBackend> =>
  (inputs, attrs, backend) => {
    backend.refuseRecording('CausalAttention');
    const { q, k, v } = inputs;
    const sizes = sizesOf(q, k, attrs);
    if (!sizes) return bySessions(inputs, attrs, backend);
    const out = backend.output(q.shape);
    native.attention(...[q, k, v, out].map((x) => backend.floats(x)), ...sizes);
    // The gradient recomputes whole rows of scores, so it needs no logSumExp.
    return [out, backend.output([0])];
  };

export const causalAttentionGrad =
  (native: Native): FusedKernel<'CausalAttentionGrad', CpuBackend> =>
  (inputs, attrs, backend) => {
    const { dy, q, k, v, out } = inputs;
    const sizes = sizesOf(q, k, attrs);
    if (!sizes) return gradientBySessions(inputs, attrs, backend);
    const gradients = [q, k, v].map(({ shape }) => backend.output(shape));
    native.attention_grad(...[dy, q, k, v, out, ...gradients].map((x) => backend.floats(x)), ...sizes);
    return gradients;
  };
