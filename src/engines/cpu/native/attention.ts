/** Causal attention of several queries and its gradient, and attention to pages, by the kernels in C; `ops/attention`. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CausalAttentionAttributes, FusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
import { causalAttention as bySessions } from '../fused/attention.js';
import { causalAttentionGrad as gradientBySessions } from '../fused/attention-grad.js';
import type { Native } from './library.js';

/** The gradient of more keys than these is left to kernels that do not hold the scores of a query with all of them. */
const MOST_KEYS = 2 ** 14;

/** Where the memory of tensors lies, for kernels that take several. */
function addressesOf(native: Native, backend: CpuBackend, tensors: readonly TensorInfo[]): BigUint64Array {
  return BigUint64Array.from(tensors, (tensor) => native.address(backend.floats(tensor)));
}

/** Keys that a query sees at most. */
const windowOf = (window: number | null, length: number): number => Math.min(window ?? length, length);

export const causalAttention =
  (native: Native): FusedKernel<'CausalAttention', CpuBackend> =>
  (inputs, attrs, backend) => {
    backend.refuseRecording('CausalAttention');
    if (attrs.positions !== null) return bySessions(inputs, attrs, backend);
    const { q, k, v } = inputs;
    const [batch, time, heads, width] = q.shape as [number, number, number, number];
    const [, length, kvHeads] = k.shape as [number, number, number];
    const out = backend.output(q.shape);
    const [keys, values] = [addressesOf(native, backend, [k]), addressesOf(native, backend, [v])];
    const shape = [batch, time, length, heads, kvHeads, width, 0, windowOf(attrs.window, length)];
    native.attention(backend.floats(q), keys, values, backend.floats(out), ...shape, attrs.scale);
    // The gradient recomputes whole rows of scores, so it needs no logSumExp.
    return [out, backend.output([0])];
  };

/** What the kernel of the gradient is told of shapes and attributes; undefined where it does not serve. */
function sizesOf(
  q: TensorInfo,
  k: TensorInfo,
  { positions, window, scale }: CausalAttentionAttributes,
): number[] | undefined {
  const [batch, time, heads, width] = q.shape as [number, number, number, number];
  const [, length, kvHeads] = k.shape as [number, number, number];
  if (positions !== null || length > MOST_KEYS) return undefined;
  return [batch, time, length, heads, kvHeads, width, windowOf(window, length), scale];
}

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

/** One query of each sequence goes by itself through the pages, several in blocks. */
export const pagedAttention =
  (native: Native): FusedKernel<'PagedAttention', CpuBackend> =>
  (inputs, attrs, backend) => {
    const q = inputs.q as TensorInfo;
    const [batch, time, heads, width] = q.shape as [number, number, number, number];
    const { window, length, pageSize, scale } = attrs;
    const kvHeads = (inputs.key0 as TensorInfo).shape[1] as number;
    const out = backend.output(q.shape);
    const [queries, target] = [backend.floats(q), backend.floats(out)];
    const pages = Array.from({ length: Math.ceil(length / pageSize) }, (_, i) => i);
    const [keys, values] = ['key', 'value'].map((name) =>
      addressesOf(
        native,
        backend,
        pages.map((i) => inputs[`${name}${i}`] as TensorInfo),
      ),
    ) as [BigUint64Array, BigUint64Array];
    backend.launch((moved) => {
      const to = length + moved;
      const memory = [queries, keys, values, target];
      if (time > 1) {
        const shape = [batch, time, to, heads, kvHeads, width, pageSize, windowOf(window, to)];
        native.attention(...memory, ...shape, scale);
      } else {
        const from = window === null ? 0 : Math.max(0, to - window);
        native.paged_attention(...memory, batch, heads, kvHeads, width, pageSize, from, to, scale);
      }
    });
    return [out];
  };
