/** The TensorFlow engine: libtensorflow through `@tensorflow/tfjs-node-gpu`, where that could be installed. */
import { cpus } from 'node:os';
import { RunError, UsageError } from '../../errors.js';
import * as tf from '../../tf.js';
import type { Engine, EngineOptions } from '../engine.js';
import { tensorBytes } from '../tensor-bytes.js';

const BACKEND = 'tensorflow';
/** In a variable, since the package may be absent when this is compiled. */
const PACKAGE: string = '@tensorflow/tfjs-node-gpu';

export interface TensorflowOptions extends EngineOptions {
  /** Refuse to compute on the CPU, where the cpu engine is faster. */
  readonly hardwareOnly?: boolean;
}

/** What is used of the package's backend. */
interface NodeBackend {
  readonly isUsingGpuDevice: boolean;
  readonly binding: { readonly TF_Version: string };
}

/**
 * Starts the engine and makes it current.
 * @throws RunError where the package does not load, saying what it needs; UsageError for 16-bit storage
 */
export async function startTensorflow(options: TensorflowOptions = {}): Promise<Engine> {
  if ((options.storage ?? 'float32') !== 'float32')
    throw new UsageError(`The tensorflow engine stores float32 only, not ${options.storage ?? ''}`);
  const major = Number(process.versions.node.split('.')[0]);
  if (major >= 23)
    throw new RunError(`tensorflow: ${PACKAGE} needs Node below 23, this is ${process.versions.node}`);
  try {
    await import(PACKAGE);
  } catch (error) {
    throw new RunError(
      `tensorflow: ${PACKAGE} is not installed; npm i ${PACKAGE} downloads libtensorflow (Node below 23; for the GPU CUDA 11.2 and cuDNN 8.1)`,
      { cause: error },
    );
  }
  await tf.setBackend(BACKEND);
  const backend = tf.backend() as unknown as NodeBackend;
  if (options.hardwareOnly && !backend.isUsingGpuDevice)
    throw new RunError('tensorflow: libtensorflow found no GPU (it needs CUDA 11.2 and cuDNN 8.1)');
  return describe(backend);
}

function describe({ isUsingGpuDevice, binding }: NodeBackend): Engine {
  const bytes = tensorBytes();
  const cpu = cpus()[0]?.model.trim() ?? 'CPU';
  return {
    name: 'tensorflow',
    backend: BACKEND,
    description: `libtensorflow ${binding.TF_Version} on ${isUsingGpuDevice ? 'GPU' : 'CPU'}`,
    device: isUsingGpuDevice ? 'CUDA GPU' : cpu,
    storage: 'float32',
    // libtensorflow keeps what it reserves to itself.
    memory: () => ({ liveBytes: bytes.live(), peakBytes: bytes.peak(), reservedBytes: bytes.live() }),
    resetPeak: () => {
      bytes.resetPeak();
    },
    availableBytes: () => process.availableMemory(),
    synchronize: () => Promise.resolve(),
  };
}
