import { registerBackend, setBackend } from '../../tf.js';
import type { Engine, EngineOptions } from '../engine.js';
import { CUDA_BACKEND, CudaBackend } from './backend.js';
import { type Device, openDevice } from './device.js';
import { registerElementwise } from './kernels/elementwise.js';
import { hostKernel, registerFallbacks } from './kernels/fallback.js';
import { registerLayout } from './kernels/layout.js';
import { registerMatrixProducts } from './kernels/matmul.js';
import { registerReductions } from './kernels/reduce.js';

let registered = false;

/**
 * Starts the CUDA engine and makes it the current tfjs backend. Storage defaults to bfloat16: logical float32
 * tensors in 16 bits, all accumulation in float32.
 *
 * @throws RunError where the driver, a GPU, NVRTC or cuBLASLt is missing, naming which.
 */
export async function startCuda(options: EngineOptions = {}): Promise<Engine> {
  const device = openDevice(options.storage ?? 'bfloat16');
  const backend = new CudaBackend(device);
  if (!registered) {
    registered = true;
    registerElementwise(hostKernel);
    registerLayout();
    registerReductions(hostKernel);
    registerMatrixProducts();
    registerFallbacks();
  }
  registerBackend(CUDA_BACKEND, () => backend);
  await setBackend(CUDA_BACKEND);
  return describe(device);
}

function describe({ driver, compiler, allocator, storage }: Device): Engine {
  const version = `${Math.floor(driver.version / 1000)}.${Math.floor((driver.version % 1000) / 10)}`;
  return {
    name: 'cuda',
    backend: CUDA_BACKEND,
    description: `${driver.deviceName}, CUDA ${version}, ${compiler.description}`,
    device: driver.deviceName,
    storage,
    memory: () => allocator.memory(),
    resetPeak: () => {
      allocator.resetPeak();
    },
    availableBytes: () => driver.memoryInfo().free + allocator.cachedBytes,
    synchronize: () => {
      driver.synchronize();
      return Promise.resolve();
    },
  };
}
