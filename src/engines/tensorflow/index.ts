/** The TensorFlow engine: libtensorflow through `@tensorflow/tfjs-node-gpu`, where that is built. */
import { availableParallelism, cpus } from 'node:os';
import { UsageError } from '../../errors.js';
import * as tf from '../../tf.js';
import { type Engine, type EngineOptions, SlowEngineError } from '../engine.js';
import { tensorBytes } from '../tensor-bytes.js';
import { loadPackage } from './package.js';

const BACKEND = 'tensorflow';

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
 * @throws RunError where the package does not load, saying what it needs; SlowEngineError without a GPU under `hardwareOnly`;
 *   UsageError for 16-bit storage, or another number of threads than the first start of this process had
 */
export async function startTensorflow(options: TensorflowOptions = {}): Promise<Engine> {
  if ((options.storage ?? 'float32') !== 'float32')
    throw new UsageError(`The tensorflow engine stores float32 only, not ${options.storage ?? ''}`);
  const threads = chooseThreads(options.threads);
  loadPackage();
  await tf.setBackend(BACKEND);
  const backend = tf.backend() as unknown as NodeBackend;
  if (options.hardwareOnly && !backend.isUsingGpuDevice)
    throw new SlowEngineError(
      `tensorflow: libtensorflow ${backend.binding.TF_Version} found no GPU, and on the CPU the cpu engine is faster`,
    );
  return describe(backend, threads);
}

let chosenThreads: number | undefined;

/** libtensorflow reads the number of threads of an operation once, when it is loaded, from this variable. */
function chooseThreads(asked: number | undefined): number {
  if (asked !== undefined && (!Number.isInteger(asked) || asked < 1))
    throw new UsageError(`The number of threads must be a whole number from 1, not ${asked}`);
  const variable = 'TF_NUM_INTRAOP_THREADS';
  chosenThreads ??= asked ?? (Number(process.env[variable]) || availableParallelism());
  if (asked !== undefined && asked !== chosenThreads)
    throw new UsageError(
      `tensorflow: was first started with ${chosenThreads} threads in this process, and cannot change to ${asked}`,
    );
  process.env[variable] = String(chosenThreads);
  return chosenThreads;
}

function describe({ isUsingGpuDevice, binding }: NodeBackend, threads: number): Engine {
  const bytes = tensorBytes();
  const cpu = cpus()[0]?.model.trim() ?? 'CPU';
  const place = isUsingGpuDevice ? 'on GPU' : `on CPU, ${threads} threads`;
  return {
    name: 'tensorflow',
    backend: BACKEND,
    description: `libtensorflow ${binding.TF_Version} ${place}`,
    device: isUsingGpuDevice ? 'CUDA GPU' : cpu,
    storage: 'float32',
    ...(!isUsingGpuDevice && { threads }),
    // libtensorflow keeps what it reserves to itself.
    memory: () => ({ liveBytes: bytes.live(), peakBytes: bytes.peak(), reservedBytes: bytes.live() }),
    resetPeak: () => {
      bytes.resetPeak();
    },
    availableBytes: () => process.availableMemory(),
    synchronize,
  };
}

/** A GPU computes in order: what is read of this sum is there when all that was queued before has been computed. */
async function synchronize(): Promise<void> {
  const one = tf.scalar(1);
  const sum = tf.add(one, one);
  await sum.data();
  tf.dispose([one, sum]);
}
