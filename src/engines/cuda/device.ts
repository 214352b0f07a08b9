import koffi from 'koffi';
import { RunError } from '../../errors.js';
import type { StorageType } from '../engine.js';
import { CachingAllocator } from './allocator.js';
import { CublasMatmul, WORKSPACE_BYTES } from './cublas.js';
import { type Driver, openDriver } from './driver.js';
import { type KernelArgument, argumentBlock, packArguments } from './launch.js';
import { type Compiler, openCompiler } from './nvrtc.js';
import type { CaptureContext } from './capture.js';
import { kernelDefines, kernelSource } from './sources.js';
import { SmallReads } from './small-reads.js';

/** One GPU: its stream, memory, compiled kernels and cuBLASLt. */
export interface Device {
  readonly driver: Driver;
  readonly compiler: Compiler;
  readonly storage: StorageType;
  readonly allocator: CachingAllocator;
  readonly matmuls: CublasMatmul;
  readonly smallReads: SmallReads;
  /** The step that is being recorded, if one is. */
  recording: CaptureContext | null;
  /** Queues kernel `name` of `sources/<file>.cu`. */
  launch(
    kernel: KernelSpec,
    grid: Grid,
    threads: number,
    args: readonly KernelArgument[],
    shared?: number,
  ): void;
  /** Milliseconds `run` takes on the device; waits for it. */
  time(run: () => void): number;
}

/** A kernel, and what its source is compiled for. */
export interface KernelSpec {
  file: string;
  name: string;
  /** `HEAD`: the head width, where the source depends on it. */
  head?: number;
  /** Storage of its float tensors where it is not the device's. */
  storage?: StorageType;
  /** It begins with `griddep_sync` of ptx.cuh: recorded, its blocks may start while the kernel before it ends. */
  early?: boolean;
}

export type Grid = readonly [number, number?, number?];

/** Macros that a source is compiled with. */
type Defines = Readonly<Record<string, number>>;

const textOf = ({ FOLD_X, FOLD_Y }: Defines): string => `${FOLD_X ?? ''} ${FOLD_Y ?? ''}`;

/** Blocks that a grid has in y or z at most; in x it has `MOST_IN_X`. */
const MOST_IN_Y = 65535;
const MOST_IN_X = 2 ** 31 - 1;

/**
 * A grid that the hardware takes, and what sources are compiled with so that kernels see the one that was meant: one with too many
 * blocks in y or z is launched in x alone (common.cuh).
 * @throws RunError for more blocks than a grid can have
 */
export function foldedGrid([x, y = 1, z = 1]: Grid): { grid: [number, number, number]; fold: Defines } {
  if (y <= MOST_IN_Y && z <= MOST_IN_Y) return { grid: [x, y, z], fold: {} };
  const blocks = x * y * z;
  if (blocks > MOST_IN_X) {
    throw new RunError(`a kernel would need ${blocks} blocks, more than a GPU takes: make the batch smaller`);
  }
  return { grid: [blocks, 1, 1], fold: { FOLD_X: x, ...(z > 1 && { FOLD_Y: y }) } };
}

/** Fills memory with a byte that makes every float a NaN: what a kernel fails to write shows. */
const POISON = 0xff;

/**
 * @param poison poison every block when it is allocated, for tests
 * @param device which GPU of the machine
 */
export function openDevice(
  storage: StorageType,
  { poison = false, device: index = 0 }: { poison?: boolean; device?: number } = {},
): Device {
  const driver = openDriver(index);
  const compiler = openCompiler();
  const allocator = new CachingAllocator(driver, (block) => {
    if (!poison) return;
    // What was put off may still read what lay there before.
    device.recording?.chain?.flush();
    driver.fill(block.pointer, block.size, POISON);
  });
  const workspace = allocator.reserve(WORKSPACE_BYTES);
  const time = (run: () => void): number => {
    const [start, end] = [driver.createEvent(), driver.createEvent()];
    driver.recordEvent(start);
    run();
    driver.recordEvent(end);
    driver.waitEvent(end);
    const milliseconds = driver.elapsed(start, end);
    driver.destroyEvent(start);
    driver.destroyEvent(end);
    return milliseconds;
  };
  const matmuls = new CublasMatmul(driver.stream, workspace, time);
  const device: Device = {
    driver,
    compiler,
    storage,
    allocator,
    matmuls,
    smallReads: new SmallReads(driver),
    recording: null,
    time,
    launch: (...args) => {
      launch(...args);
    },
  };
  const launch = kernelLauncher(device);
  return device;
}

/** Compiles and loads a kernel when it is first launched. @param device of which `launch` is still to come */
export function kernelLauncher(
  device: Pick<Device, 'driver' | 'compiler' | 'storage' | 'recording'>,
): Device['launch'] {
  const { driver, compiler, storage } = device;
  const modules = new Map<string, number>();
  const kernels = new Map<string, number>();
  const load = (kernel: KernelSpec, fold: Defines): number => {
    const { file, head } = kernel;
    const key = `${file} ${kernel.storage ?? storage} ${head ?? ''} ${textOf(fold)}`;
    let module = modules.get(key);
    if (module === undefined) {
      const { architecture } = driver;
      const defines = { ...kernelDefines(file, kernel.storage ?? storage, head), ...fold };
      module = driver.loadModule(
        compiler.compile({ name: `${file}.cu`, ...kernelSource(file), architecture, defines }),
      );
      modules.set(key, module);
    }
    return driver.getFunction(module, kernel.name);
  };

  const block = argumentBlock(koffi.address);
  const permitted = new Map<number, number>();

  return (kernel, wanted, threads, args, shared = 0) => {
    const { grid, fold } = foldedGrid(wanted);
    const [x, y, z] = grid;
    const key = `${kernel.file} ${kernel.name} ${kernel.storage ?? ''} ${kernel.head ?? ''} ${textOf(fold)}`;
    let handle = kernels.get(key);
    if (handle === undefined) {
      handle = load(kernel, fold);
      kernels.set(key, handle);
    }
    // Without it the driver gives 48 KiB, of which the arrays that a kernel declares take their part: what is left is not known here.
    if (shared > (permitted.get(handle) ?? 0)) {
      driver.allowSharedMemory(handle, shared);
      permitted.set(handle, shared);
    }
    packArguments(block, args);
    if (kernel.early === true && device.recording?.early === true) {
      driver.launchEarly(handle, grid, threads, shared, block.pointers);
    } else {
      driver.launch(handle, x, y, z, threads, 1, 1, shared, driver.stream, block.pointers, null);
    }
  };
}
