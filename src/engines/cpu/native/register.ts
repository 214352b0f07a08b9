import { registerFusedKernel } from '../../../ops/kernels.js';
import { causalAttention, causalAttentionGrad, pagedAttention } from './attention.js';
import { compressedAttention, compressedWrite } from './coded.js';
import { embedding, gatedRetention, logDecay, pageWrite, rotary } from './decode.js';
import { adamW, rmsNorm, rmsNormGrad, sumOfSquares, swiGlu, swiGluGrad } from './elementwise.js';
import type { Native } from './library.js';
import { linear, linearGroup, roundFloat8 } from './linear.js';
import { embeddingGrad, linearCrossEntropy, linearCrossEntropyGrad, weightedCrossEntropy } from './loss.js';
import { gatedRetentionGrad } from './retention-grad.js';

/** Registers the kernels in C, in place of those that ONNX Runtime computes. */
export function registerNativeKernels(backend: string, native: Native): void {
  registerFusedKernel(backend, 'AdamW', adamW(native));
  registerFusedKernel(backend, 'CausalAttention', causalAttention(native));
  registerFusedKernel(backend, 'CausalAttentionGrad', causalAttentionGrad(native));
  registerFusedKernel(backend, 'CompressedAttention', compressedAttention(native));
  registerFusedKernel(backend, 'CompressedWrite', compressedWrite);
  registerFusedKernel(backend, 'Embedding', embedding);
  registerFusedKernel(backend, 'EmbeddingGrad', embeddingGrad(native));
  registerFusedKernel(backend, 'GatedRetention', gatedRetention(native));
  registerFusedKernel(backend, 'GatedRetentionGrad', gatedRetentionGrad(native));
  registerFusedKernel(backend, 'Linear', linear(native));
  registerFusedKernel(backend, 'LinearCrossEntropy', linearCrossEntropy(native));
  registerFusedKernel(backend, 'LinearCrossEntropyGrad', linearCrossEntropyGrad(native));
  registerFusedKernel(backend, 'LinearGroup', linearGroup(native));
  registerFusedKernel(backend, 'LogDecay', logDecay);
  registerFusedKernel(backend, 'PagedAttention', pagedAttention(native));
  registerFusedKernel(backend, 'PageWrite', pageWrite);
  registerFusedKernel(backend, 'RmsNorm', rmsNorm(native));
  registerFusedKernel(backend, 'RmsNormGrad', rmsNormGrad(native));
  registerFusedKernel(backend, 'Rotary', rotary(native));
  registerFusedKernel(backend, 'RoundFloat8', roundFloat8(native));
  registerFusedKernel(backend, 'SumOfSquares', sumOfSquares(native));
  registerFusedKernel(backend, 'SwiGlu', swiGlu(native));
  registerFusedKernel(backend, 'SwiGluGrad', swiGluGrad(native));
  registerFusedKernel(backend, 'WeightedCrossEntropy', weightedCrossEntropy(native));
}
