/**
 * An engine is a tfjs backend that has been started: everything above `ops/` computes on whichever engine is
 * current and never asks which one it is. Beside the standard tfjs kernels an engine may register fused kernels
 * under the names in `ops/kernels.ts`; an op uses the kernel when the current backend has it and its own
 * composition of tfjs ops otherwise.
 */
import type { CacheType } from '../ops/attention/cache-type.js';
import type { ComputeType } from '../ops/linear/compute-type.js';
import type { Communicator } from '../distributed/communicator.js';
import type { Ranks } from '../distributed/ranks.js';
import { RunError } from '../errors.js';

export type EngineName = 'cpu' | 'cuda' | 'webgpu' | 'tensorflow';

export const ENGINE_NAMES: readonly EngineName[] = ['cpu', 'cuda', 'webgpu', 'tensorflow'];

/** How tensors are stored; arithmetic that needs it (softmax, norms, retention state) is float32 regardless. */
export type StorageType = 'float32' | 'bfloat16' | 'float16';

/** Bytes in tensors, as the engine's allocator counts them. */
export interface EngineMemory {
  /** Bytes held by tensors that exist now. */
  liveBytes: number;
  /** Largest `liveBytes` since the last `resetPeak`. */
  peakBytes: number;
  /** Bytes taken from the system, pooled buffers included. */
  reservedBytes: number;
}

/** Memory of a device as its driver knows it: tensors, what was reserved for them, and what else the engine takes. */
export interface DeviceMemory {
  /** Gives back to the device what no tensor uses, so that the next figures are of the work to come. */
  trim(): void;
  read(): DeviceMemoryFigures;
}

export interface DeviceMemoryFigures {
  /** Largest sum of what was reserved for tensors and workspaces since the last `resetPeak`. */
  reservedPeakBytes: number;
  /** In use on the device now, beyond what was in use before the engine started; work of others on it counts. */
  usedBytes: number;
}

export interface Engine {
  readonly name: EngineName;
  /** The name under which the backend is registered with tfjs. */
  readonly backend: string;
  /** What runs underneath, for provenance: `onnxruntime 1.30.0, 2 threads`, `NVIDIA H200, driver 580`. */
  readonly description: string;
  readonly device: string;
  readonly storage: StorageType;
  /** How caches store keys and values where it is not as tensors are stored: what the engine was started with. */
  cacheType?: CacheType | null;
  /** Whether it can keep weights in float8 (`ops/linear/float8.ts`). */
  readonly float8?: boolean;
  /** Whether weights in float8 are rounded only, and stored as other tensors are; default: they take a byte an element. */
  readonly roundsOnly?: boolean;
  /** In what products with weights are computed where it is not as tensors are stored: what the engine was started with. */
  compute?: ComputeType | null;
  /** Threads the engine computes with; `undefined` where the notion does not apply. */
  readonly threads?: number;
  memory(): EngineMemory;
  /** Begins a new peak measurement at the present `liveBytes`. */
  resetPeak(): void;
  /** Absent where the engine has no device of its own, or cannot ask it. */
  readonly deviceMemory?: DeviceMemory;
  /** Bytes that new tensors may take before the device or the machine runs out. */
  availableBytes(): number;
  /** Joins the processes of a run on several devices; absent where the engine works in one process only. */
  readonly join?: (ranks: Ranks) => Promise<Communicator>;
  /** Resolves when all queued work has finished (at once on a synchronous engine). */
  synchronize(): Promise<void>;
}

/** How an engine stores the weights that suit what it computes in; null: as other tensors. */
export const weightTypeOf = ({ compute = null, roundsOnly = false }: Engine): ComputeType | null =>
  roundsOnly ? null : compute;

export interface EngineOptions {
  /** CPU threads; defaults to the number of cores. */
  threads?: number;
  storage?: StorageType;
  /** How caches store keys and values of a whole context; default: as tensors are stored. */
  cacheType?: CacheType;
  /** In what models that are made from now on compute products with weights, at inference only; default: as tensors are stored. */
  compute?: ComputeType;
  /** Which GPU of the machine, from 0; default 0. */
  device?: number;
}

/** An engine that starts, but computes on the CPU where the cpu engine is faster: only its name starts it, not `auto`. */
export class SlowEngineError extends RunError {}
