import { type TensorInfo, type TypedArray, getKernel, getKernelsForBackend } from '../../../tf.js';
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import { withoutBanner } from '../../../tf.js';
import { type CudaBackend, CUDA_BACKEND } from '../backend.js';
import { sizeOf } from '../walk.js';
import { type CudaKernel, register } from './register.js';

/**
 * A kernel that has no CUDA source runs on the host: inputs are read, the plain tfjs kernel computes, results are
 * written back. Right for rare small things (top-k, multinomial); the fused ops never come here.
 */
export function hostKernel(name: string): CudaKernel {
  return (inputs, attrs, backend) => {
    const host = withoutBanner(new MathBackendCPU());
    const kernelFunc = getKernel(name, 'cpu').kernelFunc;
    const moved = Object.fromEntries(
      Object.entries(inputs).map(([key, info]) => [key, toHost(host, backend, info)]),
    );
    const results = kernelFunc({ inputs: moved, attrs, backend: host });
    return Array.isArray(results)
      ? results.map((info) => toDevice(host, backend, info))
      : toDevice(host, backend, results);
  };
}

function toHost(host: MathBackendCPU, backend: CudaBackend, info: TensorInfo): TensorInfo {
  return host.makeTensorInfo(info.shape, info.dtype, backend.readSync(info.dataId));
}

function toDevice(host: MathBackendCPU, backend: CudaBackend, info: TensorInfo): TensorInfo {
  const values = host.data.get(info.dataId).values as TypedArray;
  const dataId = backend.write(values.slice(0, sizeOf(info.shape)), info.shape, info.dtype);
  return { dataId, shape: info.shape, dtype: info.dtype };
}

/** Gives every plain kernel that the cuda backend lacks its host version. */
export function registerFallbacks(): void {
  const present = new Set(getKernelsForBackend(CUDA_BACKEND).map(({ kernelName }) => kernelName));
  for (const { kernelName } of getKernelsForBackend('cpu')) {
    if (!present.has(kernelName)) register(kernelName, hostKernel(kernelName));
  }
}
