import { OutOfMemoryError } from '../../errors.js';
import type { EngineMemory } from '../engine.js';

/** Where segments come from: the driver, or a stand-in for tests. */
export interface SegmentSource {
  /** Address of a new segment, `null` when there is no room. */
  allocate(bytes: number): number | null;
  free(pointer: number): void;
}

/** A piece of a segment; neighbours are linked so that free pieces merge again. */
export interface Block {
  readonly pointer: number;
  /** Bytes asked for: what the accounting counts. */
  requested: number;
  size: number;
  free: boolean;
  readonly segment: Segment;
  previous: Block | null;
  next: Block | null;
}

interface Segment {
  readonly pointer: number;
  readonly bytes: number;
  /** Where blocks of the segment go back to. */
  readonly owner: CachingAllocator;
}

const GRANULE = 512;
const MEBIBYTE = 2 ** 20;
/** Requests up to this come out of shared 2 MiB segments; larger ones get 32 MiB or their own. */
const SMALL = MEBIBYTE / 2;
const SMALL_SEGMENT = 2 * MEBIBYTE;
const MEDIUM = 16 * MEBIBYTE;
const MEDIUM_SEGMENT = 32 * MEBIBYTE;

const roundUp = (value: number, to: number): number => Math.ceil(value / to) * to;

/** What a request takes of a segment. */
export const blockSize = (requested: number): number => Math.max(GRANULE, roundUp(requested, GRANULE));

/** Size of the segment taken from the driver for a block of `size` bytes. */
export function segmentBytes(size: number): number {
  if (size <= SMALL) return SMALL_SEGMENT;
  if (size <= MEDIUM) return MEDIUM_SEGMENT;
  return roundUp(size, SMALL_SEGMENT);
}

/**
 * Caching allocator: freed blocks are kept and reused (best fit, split, merged with free neighbours), because the
 * driver's allocation waits for the device and costs a thousand launches. All work is on one stream, so a block
 * may be reused as soon as its owner is gone. When the device is full, wholly free segments go back first.
 */
export class CachingAllocator {
  private readonly freeBlocks: Block[] = [];
  private live = 0;
  private peak = 0;
  private reserved = 0;
  private reservedPeak = 0;
  /** Where blocks come from while memory is set aside. */
  private pool: CachingAllocator | null = null;
  private isClosed = false;
  /** Give memory back that is held for later. */
  private readonly reliefs = new Set<() => void>();

  constructor(
    private readonly device: SegmentSource,
    /** Called with every block handed out. */
    private readonly prepare: (block: Block) => void = () => undefined,
  ) {}

  memory(): EngineMemory {
    return { liveBytes: this.live, peakBytes: this.peak, reservedBytes: this.reserved };
  }

  resetPeak(): void {
    this.peak = this.live;
    this.reservedPeak = this.reserved;
  }

  /** Largest `reservedBytes` since the last `resetPeak`. */
  get reservedPeakBytes(): number {
    return this.reservedPeak;
  }

  /** Has `release` called where memory runs out, until the function that is returned is called. */
  onShortage(release: () => void): () => void {
    this.reliefs.add(release);
    return () => {
      this.reliefs.delete(release);
    };
  }

  /** Address of memory for as long as the device is open: it is no tensor's, so it counts as reserved but not as live. */
  reserve(bytes: number): number {
    return this.reserveSegment(roundUp(bytes, SMALL_SEGMENT));
  }

  /** Bytes of cached blocks that nothing uses. */
  get cachedBytes(): number {
    return this.freeBlocks.reduce((sum, block) => sum + block.size, 0);
  }

  allocate(requested: number): Block {
    return this.pool === null ? this.take(requested) : this.pool.allocate(requested);
  }

  private take(requested: number): Block {
    const size = blockSize(requested);
    const block = this.takeFree(size) ?? this.takeSegment(size);
    block.requested = requested;
    this.live += requested;
    this.peak = Math.max(this.peak, this.live);
    this.prepare(block);
    return block;
  }

  /** Blocks of equal size, each behind the one before, to be released one by one. */
  allocateRow(requested: number, count: number): Block[] {
    if (this.pool !== null) return this.pool.allocateRow(requested, count);
    const size = blockSize(requested);
    const whole = this.take(size * count);
    this.live -= (size - requested) * count;
    const blocks = [whole];
    for (let last = whole; blocks.length < count; blocks.push(last)) last = this.cut(last, size);
    for (const block of blocks) block.requested = requested;
    return blocks;
  }

  /** Releases a block, and its segment to the driver if nothing else is in it. */
  discard(block: Block): void {
    const { segment } = block;
    this.release(block);
    segment.owner.returnFree((free) => free.segment === segment);
  }

  release(block: Block): void {
    if (block.segment.owner !== this) {
      block.segment.owner.release(block);
      return;
    }
    if (block.free) throw new Error('block released twice');
    this.live -= block.requested;
    block.free = true;
    block.requested = 0;
    this.insertFree(this.merge(block));
    if (this.isClosed) this.trim();
  }

  /**
   * Runs `work` with all its blocks out of memory of its own, which stays set aside when they are released: for work that
   * will be repeated at the same addresses. Closing the pool that is returned gives the memory back.
   */
  setAside(work: () => void): CachingAllocator {
    const segments = new Map<number, Block>();
    const device: SegmentSource = {
      allocate: (bytes) => {
        const block = this.take(bytes);
        segments.set(block.pointer, block);
        return block.pointer;
      },
      free: (address) => {
        const block = segments.get(address);
        segments.delete(address);
        if (block !== undefined) this.release(block);
      },
    };
    const pool = new CachingAllocator(device, this.prepare);
    try {
      this.within(pool, work);
    } catch (error) {
      pool.close();
      throw error;
    }
    return pool;
  }

  /** Runs more work with all its blocks out of the pool. */
  within(pool: CachingAllocator, work: () => void): void {
    this.pool = pool;
    try {
      work();
    } finally {
      this.pool = null;
    }
  }

  /** Gives memory back as soon as nothing uses it, from now on. */
  close(): void {
    this.isClosed = true;
    this.trim();
  }

  /** Returns wholly free segments to the driver. */
  trim(): void {
    this.returnFree(() => true);
  }

  private returnFree(isMeant: (block: Block) => boolean): void {
    for (const block of [...this.freeBlocks]) {
      if (block.previous !== null || block.next !== null || !isMeant(block)) continue;
      this.freeBlocks.splice(this.freeBlocks.indexOf(block), 1);
      this.device.free(block.segment.pointer);
      this.reserved -= block.segment.bytes;
    }
  }

  /** Smallest free block that fits, split when the rest is worth keeping. Small and large never share a segment. */
  private takeFree(size: number): Block | null {
    const isSmall = size <= SMALL;
    const index = this.freeBlocks.findIndex(
      (block) => block.size >= size && (block.segment.bytes === SMALL_SEGMENT) === isSmall,
    );
    const block = this.freeBlocks[index];
    if (block === undefined) return null;
    this.freeBlocks.splice(index, 1);
    block.free = false;
    this.split(block, size);
    return block;
  }

  private takeSegment(size: number): Block {
    const bytes = segmentBytes(size);
    const pointer = this.reserveSegment(bytes);
    const block: Block = {
      pointer,
      requested: 0,
      size: bytes,
      free: false,
      segment: { pointer, bytes, owner: this },
      previous: null,
      next: null,
    };
    this.split(block, size);
    return block;
  }

  private reserveSegment(bytes: number): number {
    let pointer = this.device.allocate(bytes);
    if (pointer === null) {
      this.trim();
      pointer = this.device.allocate(bytes);
    }
    if (pointer === null && this.reliefs.size > 0) {
      for (const release of [...this.reliefs]) release();
      this.trim();
      pointer = this.device.allocate(bytes);
    }
    if (pointer === null) {
      const needed = (bytes / 2 ** 30).toFixed(2);
      const held = (this.live / 2 ** 30).toFixed(2);
      throw new OutOfMemoryError(
        `out of GPU memory: ${needed} GiB more needed, ${held} GiB in use by tensors`,
      );
    }
    this.reserved += bytes;
    this.reservedPeak = Math.max(this.reservedPeak, this.reserved);
    return pointer;
  }

  private split(block: Block, size: number): void {
    if (block.size - size < GRANULE) return;
    const tail = this.cut(block, size);
    tail.free = true;
    this.insertFree(tail);
  }

  /** Leaves a block the first `size` bytes, and makes the rest one of its own. */
  private cut(block: Block, size: number): Block {
    const tail: Block = {
      pointer: block.pointer + size,
      requested: 0,
      size: block.size - size,
      free: false,
      segment: block.segment,
      previous: block,
      next: block.next,
    };
    if (tail.next !== null) tail.next.previous = tail;
    block.next = tail;
    block.size = size;
    return tail;
  }

  private merge(block: Block): Block {
    const { previous, next } = block;
    if (next?.free === true) {
      this.removeFree(next);
      block.size += next.size;
      block.next = next.next;
      if (block.next !== null) block.next.previous = block;
    }
    if (previous?.free !== true) return block;
    this.removeFree(previous);
    previous.size += block.size;
    previous.next = block.next;
    if (previous.next !== null) previous.next.previous = previous;
    return previous;
  }

  private removeFree(block: Block): void {
    this.freeBlocks.splice(this.freeBlocks.indexOf(block), 1);
  }

  /** Keeps the free list ordered by size, so that the first fit is the best fit. */
  private insertFree(block: Block): void {
    let low = 0;
    let high = this.freeBlocks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.freeBlocks[middle] as Block).size < block.size) low = middle + 1;
      else high = middle;
    }
    this.freeBlocks.splice(low, 0, block);
  }
}
