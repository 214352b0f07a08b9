import {
  type AttentionAttributes,
  type CausalAttentionAttributes,
  type PagedAttentionAttributes,
  type RotationAttributes,
} from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { attend } from './attention-forward.js';
import { type GradientInputs, attentionGradient } from './attention-gradient.js';
import { type Cache, ONE_PAGE, type Problem } from './attention-problem.js';
import { registerFusedOp } from './register.js';

function problemOf(
  q: TensorInfo,
  kvHeads: number,
  keys: number,
  attrs: AttentionAttributes & {
    positions?: Int32Array | null;
    rotation?: RotationAttributes | null;
    isCausal?: boolean;
  },
): Problem {
  const [batch = 1, queries = 1, heads = 1, width = 1] = q.shape;
  const { window, scale, positions = null, rotation = null, isCausal = true } = attrs;
  const seen = { window: window ?? 0, offset: isCausal ? keys - queries : keys, positions };
  return { batch, queries, keys, heads, kvHeads, width, scale, rotation, ...seen };
}

function causalAttention(
  backend: CudaBackend,
  q: TensorInfo,
  k: TensorInfo,
  v: TensorInfo,
  attrs: CausalAttentionAttributes,
): TensorInfo[] {
  const [batch = 1, keys = 1, kvHeads = 1, width = 1] = k.shape;
  const problem = problemOf(q, kvHeads, keys, attrs);
  const out = backend.output(q.shape);
  const logSumExp = backend.output([batch, problem.heads, problem.queries], 'float32', 'float32');
  const cache: Cache = {
    keys: [backend.pointer(k)],
    values: [backend.pointer(v)],
    pageSize: ONE_PAGE,
    positionStride: kvHeads * width,
    headStride: width,
    batchStride: keys * kvHeads * width,
  };
  attend(backend, problem, q, cache, out, backend.pointer(logSumExp, 'float32'));
  return [out, logSumExp];
}

function pagedAttention(
  backend: CudaBackend,
  inputs: Readonly<Record<string, TensorInfo>>,
  attrs: PagedAttentionAttributes & { readonly rotation?: RotationAttributes; readonly isCausal?: boolean },
  logSumExp: TensorInfo | null = null,
): TensorInfo {
  const q = inputs.q as TensorInfo;
  const used = Math.ceil(attrs.length / attrs.pageSize);
  const pages = (name: string): TensorInfo[] =>
    Array.from({ length: used }, (_, index) => inputs[`${name}${index}`] as TensorInfo);
  const [, kvHeads = 1, pageSize = 1, width = 1] = (inputs.key0 as TensorInfo).shape;
  const out = backend.output(q.shape);
  const cache: Cache = {
    keys: pages('key').map((page) => backend.pointer(page)),
    values: pages('value').map((page) => backend.pointer(page)),
    pageSize,
    positionStride: width,
    headStride: pageSize * width,
    batchStride: kvHeads * pageSize * width,
  };
  const address = logSumExp === null ? 0 : backend.pointer(logSumExp, 'float32');
  attend(backend, problemOf(q, kvHeads, attrs.length, attrs), q, cache, out, address);
  return out;
}

function partialPagedAttention(
  backend: CudaBackend,
  inputs: Readonly<Record<string, TensorInfo>>,
  attrs: PagedAttentionAttributes & { readonly isCausal: boolean },
): TensorInfo[] {
  const [batch = 1, queries = 1, heads = 1] = (inputs.q as TensorInfo).shape;
  const logSumExp = backend.output([batch, heads, queries], 'float32', 'float32');
  return [pagedAttention(backend, inputs, attrs, logSumExp), logSumExp];
}

function causalAttentionGrad(
  backend: CudaBackend,
  inputs: GradientInputs,
  attrs: CausalAttentionAttributes,
): TensorInfo[] {
  const [, keys = 1, kvHeads = 1] = inputs.k.shape;
  return attentionGradient(backend, inputs, problemOf(inputs.q, kvHeads, keys, attrs));
}

/** Attention on tensor cores; under float32 storage the composed form keeps full precision. */
export function registerAttention(): void {
  registerFusedOp('CausalAttention', ({ q, k, v }, attrs, backend) =>
    causalAttention(backend, q, k, v, attrs),
  );
  registerFusedOp('CausalAttentionGrad', (inputs, attrs, backend) =>
    causalAttentionGrad(backend, inputs, attrs),
  );
  registerFusedOp('RotatedPagedAttention', (inputs, attrs, backend) =>
    pagedAttention(backend, inputs, attrs),
  );
  registerFusedOp('PagedAttention', (inputs, attrs, backend) => pagedAttention(backend, inputs, attrs));
  registerFusedOp('PartialPagedAttention', (inputs, attrs, backend) =>
    partialPagedAttention(backend, inputs, attrs),
  );
}
