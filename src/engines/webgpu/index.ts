/** The WebGPU engine: tfjs' WebGPU backend on Dawn (npm `webgpu`), for GPUs without an engine of their own. */
import { existsSync } from 'node:fs';
import { RunError, UsageError } from '../../errors.js';
import { repairBatchMatMul } from '../../repeat-batches.js';
import * as tf from '../../tf.js';
import type { Engine, EngineOptions } from '../engine.js';
import { tensorBytes } from '../tensor-bytes.js';
import { replaceCumsum } from './cumulative.js';
import { interceptDawnEvents } from './dawn-events.js';

const BACKEND = 'yoco-webgpu';

export interface WebgpuOptions extends EngineOptions {
  /** Refuse a software implementation: slower than the cpu engine. */
  readonly hardwareOnly?: boolean;
}

let started: Promise<Engine> | undefined;

/** Dawn's instance and device: collected as garbage while work is under way, they take the process down. */
const kept: object[] = [];

/**
 * Starts the engine and makes it current.
 * @throws RunError where the packages are not installed or no adapter is found; UsageError for 16-bit storage
 */
export async function startWebgpu(options: WebgpuOptions = {}): Promise<Engine> {
  if ((options.storage ?? 'float32') !== 'float32')
    throw new UsageError(`The webgpu engine stores float32 only, not ${options.storage ?? ''}`);
  const hardwareOnly = options.hardwareOnly ?? false;
  // Dawn complains on stderr where there is nothing to find.
  if (hardwareOnly && process.platform === 'linux' && !['/dev/dri', '/dev/dxg'].some(existsSync))
    throw new RunError('webgpu: this machine has no GPU device (/dev/dri)');
  started ??= createEngine(hardwareOnly);
  try {
    const engine = await started;
    await tf.setBackend(BACKEND);
    return engine;
  } catch (error) {
    started = undefined;
    throw error;
  }
}

async function createEngine(hardwareOnly: boolean): Promise<Engine> {
  const { create, NodeWebgpuBackend } = await loadPackages();
  const gpu = create([]);
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter)
    throw new RunError(
      'webgpu: no GPU found; on Linux install a Vulkan driver (mesa-vulkan-drivers or that of the GPU) and libvulkan1',
    );
  const { info } = adapter;
  const software = info.isFallbackAdapter;
  if (software && hardwareOnly) throw new RunError('webgpu: only a software implementation was found');
  const device = await adapter.requestDevice(deviceNeeds(adapter));
  kept.push(gpu, adapter, device);
  const backend = withNavigator(gpu, () => new NodeWebgpuBackend(device, info));
  tf.copyRegisteredKernels('webgpu', BACKEND);
  repairBatchMatMul(BACKEND);
  replaceCumsum(BACKEND);
  tf.registerBackend(BACKEND, () => backend);
  const bytes = tensorBytes();
  return {
    name: 'webgpu',
    backend: BACKEND,
    description: `WebGPU on Dawn, ${info.description || info.device || info.vendor}`,
    device: info.device || info.description || info.vendor,
    storage: 'float32',
    memory: () => ({
      liveBytes: bytes.live(),
      peakBytes: bytes.peak(),
      reservedBytes: backend.memory().numBytesAllocatedInGPU,
    }),
    resetPeak: () => {
      bytes.resetPeak();
    },
    // WebGPU does not tell how much memory a device has; that of the machine stands in for it.
    availableBytes: () => process.availableMemory(),
    synchronize: () => backend.finished(),
  };
}

async function loadPackages() {
  try {
    const { create, globals } = await import('webgpu');
    Object.assign(globalThis, globals);
    interceptDawnEvents();
    return { create, ...(await import('./backend.js')) };
  } catch (error) {
    throw new RunError(
      'webgpu: the packages webgpu and @tensorflow/tfjs-backend-webgpu do not load here; install them with npm i webgpu @tensorflow/tfjs-backend-webgpu',
      { cause: error },
    );
  }
}

/** What tfjs' backend asks a device for: the largest buffers and workgroups there are. */
function deviceNeeds({ limits }: GPUAdapter): GPUDeviceDescriptor {
  return {
    requiredLimits: {
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      maxComputeWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxBufferSize: limits.maxBufferSize,
      maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
    },
  };
}

/** tfjs looks for `navigator.gpu` when a backend is made; elsewhere a navigator would pass Node for a browser. */
function withNavigator<T>(gpu: GPU, make: () => T): T {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { configurable: true, value: { gpu } });
  try {
    return make();
  } finally {
    if (before) Object.defineProperty(globalThis, 'navigator', before);
    else Reflect.deleteProperty(globalThis, 'navigator');
  }
}
