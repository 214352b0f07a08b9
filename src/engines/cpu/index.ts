/** The CPU engine: tfjs on top, ONNX Runtime's threaded kernels underneath. */
import { availableParallelism, cpus } from 'node:os';
import { ready, registerBackend, setBackend } from '@tensorflow/tfjs-core';
import type { Engine, EngineOptions } from '../engine.js';
import { UsageError } from '../../errors.js';
import { limits } from '../../ops/limits.js';
import { registerRecorder } from '../../ops/recording.js';
import { CpuBackend } from './backend.js';
import { registerFusedKernels } from './fused/register.js';
import { registerKernels } from './kernels/register.js';
import { loadNative, type Native } from './native/library.js';
import { cpuRecorder } from './native/recorder.js';
import { registerNativeKernels } from './native/register.js';
import { BufferPool } from './pool.js';
import { OnnxRuntime } from './runtime.js';

/**
 * Long pages are read at the speed of memory; the activations of a chunk of a prompt should stay in the cache.
 * See `ops/limits.ts`.
 */
const LIMITS: Partial<typeof limits> = { keyPageBytes: 2 ** 25, chunkBytes: 2 ** 25 };

/** In the description of an engine that has them. */
export const KERNELS_IN_C = 'kernels in C';

/** Engines by their backend's name: a second start with the same number of threads gets the first one. */
const started = new Map<string, Engine>();

/**
 * Starts the engine and makes it tfjs' current backend. Where ONNX Runtime has no binary for this platform, the
 * same backend runs on tfjs' plain kernels, and reports it on stderr.
 * @param native whether to use the kernels in C; default: as `YOCO_NATIVE` says, else where they were compiled
 * @throws UsageError for a storage type other than float32, a number of threads below 1, or kernels in C that are asked for and were not compiled
 */
export async function startCpu(
  options: EngineOptions = {},
  { native = nativeSetting() }: { readonly native?: boolean } = {},
): Promise<Engine> {
  const threads = options.threads ?? availableParallelism();
  if (!Number.isInteger(threads) || threads < 1)
    throw new UsageError(`The number of threads must be a whole number from 1, not ${threads}`);
  if ((options.storage ?? 'float32') !== 'float32')
    throw new UsageError(`The cpu engine stores float32 only, not ${options.storage ?? ''}`);
  const isWanted = native ?? true;
  const name = `yoco-cpu-${threads}${isWanted ? '-native' : ''}`;
  const engine = started.get(name) ?? createEngine(name, threads, isWanted ? kernelsInC(threads) : null);
  started.set(name, engine);
  if (native === true && !engine.description.includes(KERNELS_IN_C))
    throw new UsageError(
      'YOCO_NATIVE=on: there are no kernels in C that this processor and system load; with a C compiler `node runtime/install.js` makes them',
    );
  Object.assign(limits, LIMITS);
  await setBackend(name);
  await ready();
  return engine;
}

/** What `YOCO_NATIVE` says of the kernels in C; undefined: nothing. */
function nativeSetting(): boolean | undefined {
  const { YOCO_NATIVE: setting = '' } = process.env;
  if (setting === '') return undefined;
  if (setting === 'on' || setting === 'off') return setting === 'on';
  throw new UsageError(`YOCO_NATIVE is on or off, not ${setting}`);
}

/** Null where there are none. What was compiled and is not used is reported on stderr. */
function kernelsInC(threads: number): Native | null {
  const { native, problem } = loadNative(threads);
  if (problem !== null)
    process.stderr.write(
      `The cpu engine runs ${native ? 'with slower kernels in C' : 'without its kernels in C, slower'}: ${problem}; node runtime/install.js in the package compiles them again\n`,
    );
  return native;
}

function createEngine(name: string, threads: number, native: Native | null): Engine {
  const runtime = loadRuntime(threads, native === null);
  // Only Linux takes such advice.
  const pool = new BufferPool(runtime && process.platform === 'linux' ? native : null);
  const backend = new CpuBackend(pool, runtime, threads, runtime ? native : null);
  registerKernels(name, runtime !== undefined);
  if (runtime) registerFusedKernels(name);
  if (runtime && native) {
    registerNativeKernels(name, native);
    registerRecorder(name, cpuRecorder(backend));
  }
  registerBackend(name, () => backend);
  return {
    name: 'cpu',
    backend: name,
    description: runtime
      ? `onnxruntime ${runtime.version}${native ? `, ${KERNELS_IN_C}` : ''}, ${threads} threads`
      : 'tfjs cpu, 1 thread',
    device: cpus()[0]?.model.trim() ?? 'CPU',
    storage: 'float32',
    float8: true,
    roundsOnly: true,
    threads: runtime ? threads : 1,
    memory: () => {
      const memory = pool.memory();
      return { ...memory, reservedBytes: memory.reservedBytes + backend.sharedFreeBytes };
    },
    resetPeak: () => {
      pool.resetPeak();
    },
    availableBytes: () => process.availableMemory() + pool.freeBytes + backend.sharedFreeBytes,
    join: async (ranks) => (await import('../../distributed/mpi.js')).joinByMpi(ranks),
    synchronize: () => Promise.resolve(),
  };
}

/** @param spin whether its threads wait for work awake: threads of other kernels would have to share the processor with them */
function loadRuntime(threads: number, spin: boolean): OnnxRuntime | undefined {
  try {
    return OnnxRuntime.load(threads, spin);
  } catch (error) {
    const reason = (error instanceof Error ? error.message : String(error)).split('\n')[0];
    process.stderr.write(
      `ONNX Runtime does not load on ${process.platform}-${process.arch}, the cpu engine runs on plain tfjs: ${reason}\n`,
    );
    return undefined;
  }
}
