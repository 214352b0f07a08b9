import { limits } from '../../ops/limits.js';
import { registerRecorder } from '../../ops/recording.js';
import type { KernelName } from '../../ops/kernels.js';
import * as tf from '../../tf.js';
import type { Engine, EngineOptions } from '../engine.js';
import { CUDA_BACKEND, CudaBackend } from './backend.js';
import { type Device, openDevice } from './device.js';
import { cudaRecorder } from './recorder.js';
import { registerAttention } from './kernels/attention.js';
import { registerCompressed } from './kernels/compressed.js';
import { registerCrossEntropy } from './kernels/cross-entropy.js';
import { registerDelta } from './kernels/delta.js';
import { registerDeltaGradient } from './kernels/delta-gradient.js';
import { registerElementwise } from './kernels/elementwise.js';
import { hostKernel, registerFallbacks } from './kernels/fallback.js';
import { registerFused } from './kernels/fused.js';
import { registerIndexing } from './kernels/indexing.js';
import { registerLayout } from './kernels/layout.js';
import { hasFloat8, registerLinearFloat8 } from './kernels/linear-float8.js';
import { registerMatmul } from './kernels/matmul.js';
import { registerNorms } from './kernels/norm.js';
import { registerOptimizer } from './kernels/optimizer.js';
import { registerReductions } from './kernels/reduce.js';
import { registerRetention } from './kernels/retention.js';
import { registerShortConvolution } from './kernels/short-convolution.js';
import { registerStateSpace } from './kernels/state-space.js';

/**
 * Starts the CUDA engine and makes it the current tfjs backend. Storage defaults to bfloat16: logical float32
 * tensors in 16 bits, all accumulation in float32.
 *
 * @param options `poison` fills new memory with NaNs, for tests
 * @throws RunError where the driver, a GPU, NVRTC or cuBLASLt is missing, naming which.
 */
export async function startCuda(options: EngineOptions & { poison?: boolean } = {}): Promise<Engine> {
  return startOn(openDevice(options.storage ?? 'bfloat16', options));
}

/** The same on a device that is open already. */
export async function startOn(device: Device): Promise<Engine> {
  const backend = new CudaBackend(device);
  registerKernels(device);
  // The composed forms that replace kernels under float32 depend on the position in ways a recording cannot follow.
  registerRecorder(CUDA_BACKEND, device.storage === 'float32' ? null : cudaRecorder(backend));
  Object.assign(limits, { chunkBytes: CHUNK_BYTES, keyPageBytes: KEY_PAGE_BYTES });
  // Starting again, with another storage say, replaces the backend and frees what it held.
  if (CUDA_BACKEND in tf.engine().registry) tf.removeBackend(CUDA_BACKEND);
  tf.registerBackend(CUDA_BACKEND, () => backend);
  await tf.setBackend(CUDA_BACKEND);
  return describe(device, backend);
}

/** Chunks of a prefill: 8,192 tokens of a 3B model fill the device; larger ones only take memory. */
const CHUNK_BYTES = 2 ** 30;
/** Pages of 32,768 positions for 8 heads of 128: every layer and step handles all pages, so a million tokens make 32. */
const KEY_PAGE_BYTES = 2 ** 27;

/** Kernels that exist for bfloat16 only. */
const BFLOAT16_ONLY: readonly KernelName[] = ['CompressRows', 'CompressedWrite', 'CompressedAttention'];

/** Fused kernels that exist for 16-bit storage only: under float32 the composed form keeps full precision. */
const HALF_PRECISION_ONLY: readonly KernelName[] = [
  'CausalAttention',
  'CausalAttentionGrad',
  'PagedAttention',
  'PartialPagedAttention',
  'RotatedPagedAttention',
  'GatedDeltaRuleGrad',
  'GatedRetention',
  'GatedRetentionGrad',
  'RotatedRetention',
  'StateSpaceDual',
];

/** Kernels that exist where {@link hasFloat8}. */
const FLOAT8_ONLY: readonly KernelName[] = [
  'KeepFloat8',
  'LinearFloat8',
  'LinearGroupFloat8',
  'LinearSwiGluFloat8',
];

let registered = false;

/** The kernels are those of the backend's name: once in a process, but for those that depend on the storage or on the GPU. */
function registerKernels(device: Device): void {
  const { storage } = device;
  if (!registered) {
    registerElementwise(hostKernel);
    registerLayout();
    registerIndexing();
    registerReductions(hostKernel);
    registerMatmul();
    registerFallbacks();
    registerNorms();
    registerFused();
    registerShortConvolution();
    registerDelta();
    registerCrossEntropy();
    registerOptimizer();
  }
  registered = true;
  const absent = [
    ...(storage === 'float32' ? [...HALF_PRECISION_ONLY, ...BFLOAT16_ONLY] : BFLOAT16_ONLY),
    ...FLOAT8_ONLY,
  ];
  const present = new Set(tf.getKernelsForBackend(CUDA_BACKEND).map(({ kernelName }) => kernelName));
  for (const name of absent) if (present.has(name)) tf.unregisterKernel(name, CUDA_BACKEND);
  if (hasFloat8(device)) registerLinearFloat8();
  if (storage === 'float32') return;
  registerAttention();
  registerRetention();
  registerDeltaGradient();
  registerStateSpace();
  if (storage === 'bfloat16') registerCompressed();
}

function describe(device: Device, backend: CudaBackend): Engine {
  const { driver, compiler, allocator, storage } = device;
  const version = `${Math.floor(driver.version / 1000)}.${Math.floor((driver.version % 1000) / 10)}`;
  return {
    name: 'cuda',
    backend: CUDA_BACKEND,
    description: `${driver.deviceName}, CUDA ${version}, ${compiler.description}`,
    device: driver.deviceName,
    storage,
    float8: hasFloat8(device),
    memory: () => allocator.memory(),
    resetPeak: () => {
      allocator.resetPeak();
    },
    deviceMemory: {
      trim: () => {
        allocator.trim();
      },
      read: () => ({
        reservedPeakBytes: allocator.reservedPeakBytes,
        usedBytes: driver.freeAtStart - driver.memoryInfo().free,
      }),
    },
    availableBytes: () => driver.memoryInfo().free + allocator.cachedBytes,
    join: async (ranks) => (await import('./nccl.js')).joinByNccl(ranks, backend),
    synchronize: () => {
      driver.synchronize();
      return Promise.resolve();
    },
  };
}
