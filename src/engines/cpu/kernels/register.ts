import { copyRegisteredKernels, getKernel, registerKernel, unregisterKernel } from '@tensorflow/tfjs-core';
import { batchMatMul } from './matmul.js';
import type { KernelCall, NativeKernel } from './call.js';
import { elementwiseKernels } from './elementwise.js';
import { layoutKernels } from './layout.js';
import { reductionKernels } from './reduce.js';

/** Registers for `backend` every kernel tfjs has for its plain CPU backend, the heavy ones replaced if `native`. */
export function registerKernels(backend: string, native: boolean): void {
  copyRegisteredKernels('cpu', backend);
  if (!native) return;
  const replacements: Record<string, NativeKernel> = {
    BatchMatMul: batchMatMul,
    ...elementwiseKernels(),
    ...layoutKernels(),
    ...reductionKernels(),
  };
  for (const [kernelName, replacement] of Object.entries(replacements))
    replace(backend, kernelName, replacement);
}

function replace(backendName: string, kernelName: string, replacement: NativeKernel): void {
  const plain = getKernel(kernelName, 'cpu');
  unregisterKernel(kernelName, backendName);
  registerKernel({
    kernelName,
    backendName,
    kernelFunc: (parameters) =>
      replacement(parameters as unknown as KernelCall) ?? plain.kernelFunc(parameters),
  });
}
