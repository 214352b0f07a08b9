import { registerFusedKernel } from '../../../ops/kernels.js';
import { causalAttention } from './attention.js';
import { causalAttentionGrad } from './attention-grad.js';
import { compressRows, compressedAttention } from './compressed-attention.js';
import { logDecay, logDecayGrad } from './decay.js';
import { gatedDeltaRule, gatedDeltaRuleGrad } from './delta.js';
import { embedding, embeddingGrad } from './embedding.js';
import { linear, linearGroup } from './linear.js';
import { crossEntropy, crossEntropyGrad, linearCrossEntropy, linearCrossEntropyGrad } from './loss.js';
import { rmsNorm, rmsNormGrad } from './norm.js';
import { adamW } from './optimizer.js';
import { pagedAttention } from './paged-attention.js';
import { pageWrite } from './pages.js';
import { gatedRetention, gatedRetentionGrad } from './retention.js';
import { rotary } from './rotary.js';
import { shortConvolution, shortConvolutionGrad } from './short-convolution.js';
import { swiGlu, swiGluGrad } from './swiglu.js';

/** Registers the engine's fused kernels, whose names and meanings are in `ops/kernels.ts`. */
export function registerFusedKernels(backend: string): void {
  registerFusedKernel(backend, 'AdamW', adamW);
  registerFusedKernel(backend, 'CausalAttention', causalAttention);
  registerFusedKernel(backend, 'CausalAttentionGrad', causalAttentionGrad);
  registerFusedKernel(backend, 'CompressedAttention', compressedAttention);
  registerFusedKernel(backend, 'CompressRows', compressRows);
  registerFusedKernel(backend, 'CrossEntropy', crossEntropy);
  registerFusedKernel(backend, 'CrossEntropyGrad', crossEntropyGrad);
  registerFusedKernel(backend, 'Embedding', embedding);
  registerFusedKernel(backend, 'EmbeddingGrad', embeddingGrad);
  registerFusedKernel(backend, 'GatedDeltaRule', gatedDeltaRule);
  registerFusedKernel(backend, 'GatedDeltaRuleGrad', gatedDeltaRuleGrad);
  registerFusedKernel(backend, 'GatedRetention', gatedRetention);
  registerFusedKernel(backend, 'GatedRetentionGrad', gatedRetentionGrad);
  registerFusedKernel(backend, 'Linear', linear);
  registerFusedKernel(backend, 'LinearCrossEntropy', linearCrossEntropy);
  registerFusedKernel(backend, 'LinearCrossEntropyGrad', linearCrossEntropyGrad);
  registerFusedKernel(backend, 'LinearGroup', linearGroup);
  registerFusedKernel(backend, 'LogDecay', logDecay);
  registerFusedKernel(backend, 'LogDecayGrad', logDecayGrad);
  registerFusedKernel(backend, 'PagedAttention', pagedAttention);
  registerFusedKernel(backend, 'PageWrite', pageWrite);
  registerFusedKernel(backend, 'RmsNorm', rmsNorm);
  registerFusedKernel(backend, 'RmsNormGrad', rmsNormGrad);
  registerFusedKernel(backend, 'Rotary', rotary);
  registerFusedKernel(backend, 'ShortConvolution', shortConvolution);
  registerFusedKernel(backend, 'ShortConvolutionGrad', shortConvolutionGrad);
  registerFusedKernel(backend, 'SwiGlu', swiGlu);
  registerFusedKernel(backend, 'SwiGluGrad', swiGluGrad);
}
