import { type FusedKernel, type KernelName, registerFusedKernel } from '../../../ops/kernels.js';
import type { CpuBackend } from '../backend.js';
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
export function registerFusedKernels(backendName: string): void {
  // None of them launches its work, as a recorded step needs it.
  const register = <Name extends KernelName>(name: Name, kernel: FusedKernel<Name, CpuBackend>): void => {
    registerFusedKernel<Name, CpuBackend>(backendName, name, (inputs, attrs, backend) => {
      backend.refuseRecording(name);
      return kernel(inputs, attrs, backend);
    });
  };
  register('AdamW', adamW);
  register('CausalAttention', causalAttention);
  register('CausalAttentionGrad', causalAttentionGrad);
  register('CompressedAttention', compressedAttention);
  register('CompressRows', compressRows);
  register('CrossEntropy', crossEntropy);
  register('CrossEntropyGrad', crossEntropyGrad);
  register('Embedding', embedding);
  register('EmbeddingGrad', embeddingGrad);
  register('GatedDeltaRule', gatedDeltaRule);
  register('GatedDeltaRuleGrad', gatedDeltaRuleGrad);
  register('GatedRetention', gatedRetention);
  register('GatedRetentionGrad', gatedRetentionGrad);
  register('Linear', linear);
  register('LinearCrossEntropy', linearCrossEntropy);
  register('LinearCrossEntropyGrad', linearCrossEntropyGrad);
  register('LinearGroup', linearGroup);
  register('LogDecay', logDecay);
  register('LogDecayGrad', logDecayGrad);
  register('PagedAttention', pagedAttention);
  register('PageWrite', pageWrite);
  register('RmsNorm', rmsNorm);
  register('RmsNormGrad', rmsNormGrad);
  register('Rotary', rotary);
  register('ShortConvolution', shortConvolution);
  register('ShortConvolutionGrad', shortConvolutionGrad);
  register('SwiGlu', swiGlu);
  register('SwiGluGrad', swiGluGrad);
}
