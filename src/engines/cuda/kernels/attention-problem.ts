/** What the attention kernels have in common: the problem, the choice of a kernel, and how both reach the device. */
import type { RotationAttributes } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import { RunError } from '../../../errors.js';
import type { Block } from '../allocator.js';
import type { CudaBackend } from '../backend.js';
import type { KernelArgument } from '../launch.js';
import { ATTENTION_SHAPE, SOURCE } from '../structs.js';
import { TILES } from '../tiles.js';
import { BOX_POSITIONS } from '../tensor-map.js';

const SPLIT = TILES.attention_decode;
/** Positions that all lie in one array. */
export const ONE_PAGE = 2 ** 30;

/** Keys and values: pages of `pageSize` positions, [B,Hkv,P,D], or one array, [B,Tk,Hkv,D]. */
export interface Cache {
  keys: number[];
  values: number[];
  pageSize: number;
  positionStride: number;
  headStride: number;
  batchStride: number;
}

export interface Problem {
  batch: number;
  queries: number;
  keys: number;
  heads: number;
  kvHeads: number;
  width: number;
  window: number;
  scale: number;
  /** Position of the first query, where `positions` do not say it: `keys` or more of one that sees all. */
  offset: number;
  positions: Int32Array | null;
  /** Of the queries, before anything else. */
  rotation: RotationAttributes | null;
}

/** The padded head width that the sources are compiled for. */
export function headWidth(width: number): number {
  const fitting = [32, 64, 128, 256].find((padded) => padded >= width);
  if (fitting === undefined) {
    throw new RunError(
      `in 16 bits the cuda engine's attention takes heads of at most 256, not ${width}; float32 takes any (--dtype float32)`,
    );
  }
  return fitting;
}

/** Which kernel computes the problem: bound by memory, by Hopper's tensor cores, or in the general way. */
export function attentionRoute(
  problem: Problem,
  pageSize: number,
  isHopper: boolean,
): 'split' | 'hopper' | 'general' {
  const { queries, keys, heads, kvHeads, width, offset, positions } = problem;
  if (positions !== null) return 'general';
  const isPadded = headWidth(width) !== width;
  const areLast = offset === keys - queries;
  if (areLast && (queries * heads) / kvHeads <= SPLIT.MOST && !isPadded && width <= 128) return 'split';
  const aligned = pageSize % BOX_POSITIONS === 0;
  return isHopper && aligned && (width === 64 || width === 128) ? 'hopper' : 'general';
}

/** Shared memory that a block takes beside what it asks for: the system's, and the peaks and sums of its warps. */
const RESERVED_SHARED = 1024 + 512;
/** Blocks of narrow heads on a multiprocessor: its registers would not take many more. */
const MOST_RESIDENT = 5;

/**
 * Splits of the keys such that all blocks are resident at once: with a few more the last would run alone, and the device
 * idle beside them.
 * @param blockBytes shared memory that a block asks for
 * @param mostResident blocks that the registers of a multiprocessor allow
 */
export function mostSplits(
  { kvHeads, batch }: Pick<Problem, 'kvHeads' | 'batch'>,
  { multiprocessors, sharedBytes }: { multiprocessors: number; sharedBytes: number },
  blockBytes: number,
  mostResident = MOST_RESIDENT,
): number {
  const fitting = Math.floor(sharedBytes / (blockBytes + RESERVED_SHARED));
  const resident = multiprocessors * Math.min(mostResident, Math.max(1, fitting));
  return Math.max(1, Math.floor(resident / (kvHeads * batch)));
}

/** How many splits get keys; the kernel computes the same. */
export function splitsOf(keys: number, most: number): number {
  const even = Math.ceil(Math.ceil(keys / most) / SPLIT.STEP) * SPLIT.STEP;
  return Math.ceil(keys / Math.max(SPLIT.LEAST, even));
}

/** Strides of [B,T,H,D] rows as the sources' `Source` takes them, with the pages' address table. */
export function source(
  base: number,
  pages: number,
  batch: number,
  position: number,
  head: number,
  pageSize: number,
): KernelArgument {
  return SOURCE.argument({ base, pages, batch, position, head, pageSize });
}
export function rows(backend: CudaBackend, info: TensorInfo): KernelArgument {
  const [, time = 1, heads = 1, width = 1] = info.shape;
  return source(backend.pointer(info), 0, time * heads * width, heads * width, width, ONE_PAGE);
}

/** The page table uploaded last: every layer of a YOCO cross-decoder reads the same pages. */
const lastTables = new WeakMap<
  CudaBackend,
  { addresses: readonly number[]; block: Block; capacity: number }
>();

/** Device table of the addresses of pages. */
export function pageTable(backend: CudaBackend, addresses: readonly number[]): number {
  const { allocator, driver, recording } = backend.device;
  if (recording !== null) return recording.constant(BigUint64Array.from(addresses, BigInt));
  const last = lastTables.get(backend);
  const isSame =
    last?.addresses.length === addresses.length && last.addresses.every((at, i) => at === addresses[i]);
  if (last !== undefined && isSame) return last.block.pointer;
  const fits = last !== undefined && last.capacity >= addresses.length;
  if (last !== undefined && !fits) allocator.release(last.block);
  const capacity = fits ? last.capacity : Math.max(64, 2 * addresses.length);
  const block = fits ? last.block : allocator.allocate(capacity * 8);
  driver.upload(block.pointer, BigUint64Array.from(addresses, BigInt));
  lastTables.set(backend, { addresses, block, capacity });
  return block.pointer;
}

/** `Shape` of attention.cu; `positions` is the device copy of the query positions. */
function shapeArguments(problem: Problem, positions: number): KernelArgument {
  const { queries: tq, keys: tk, heads, kvHeads, width, window, scale, offset } = problem;
  return ATTENTION_SHAPE.argument({ tq, tk, heads, kvHeads, width, window, scale, offset, positions });
}

export function withPositions(
  backend: CudaBackend,
  problem: Problem,
  use: (shape: KernelArgument) => void,
): void {
  if (problem.positions === null) use(shapeArguments(problem, 0));
  else
    backend.uploaded(problem.positions, (address) => {
      use(shapeArguments(problem, address));
    });
}

/** Shared memory of a block of the split kernel: Q, and the stages of K and V of every warp. */
export const splitBytes = (head: number): number =>
  tileBytes(head, SPLIT.MOST + SPLIT.WARPS * SPLIT.STAGES * 2 * SPLIT.KEYS);

export const tileBytes = (head: number, rowCount: number): number => rowCount * (head + 8) * 2;
